"""What of an inner update is learnt by gradients through it: settings and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rl2_lightning.errors import UserError
from rl2_lightning.learners.a2c import A2CSettings
from rl2_lightning.learners.learner import RunShape
from rl2_lightning.settings import between

DISCOUNTS = ("gamma", "gae_lambda")
FACTORS = ("entropy_coefficient", "value_coefficient", "learning_rate")
NAMES = (*DISCOUNTS, *FACTORS)


@dataclass
class MetaGradientSettings(A2CSettings):
    """Settings of meta-gradient A2C.

    Attributes:
        gamma: γ at the start.
        gae_lambda: λ at the start.
        meta_parameters: names of what is learnt: γ and λ, and factors of the schedules of the
            entropy's weight, the critic's weight and the learning rate, which are 1 at the start.
        outer_learning_rate: Adam's learning rate of the meta-parameters; 0 leaves them as they are.
        reference_gamma: γ of the outer objective.
        reference_gae_lambda: λ of the outer objective.
        trace_decay: μ, share of what earlier updates did to the weights that is remembered after
            an update.
    """

    gamma: float = 0.95  # the range depends on whether it is learnt, and so does that of λ
    gae_lambda: float = 0.95
    meta_parameters: list[str] = field(default_factory=lambda: list(DISCOUNTS))
    outer_learning_rate: float = between(0, 1e30, default=1e-3)
    reference_gamma: float = between(0, 1, default=1.0)
    reference_gae_lambda: float = between(0, 1, default=1.0)
    trace_decay: float = between(0, 1, default=0.0)

    def check(self) -> None:
        """See `Settings.check`."""
        names = self.meta_parameters
        said = f"learner.meta_parameters={names}"
        if not names:
            raise UserError(f"{said} leaves nothing to learn: use learner=a2c")
        if unknown := [name for name in names if name not in NAMES]:
            raise UserError(f"{said}: {unknown[0]} is unknown; known are {', '.join(NAMES)}")
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"{said} names {twice[0]} twice: name it once")
        for name in DISCOUNTS:
            self._check_discount(name)
        for name, why in self._unused():
            if name in names:
                raise UserError(
                    f"{said}: {name} has no effect with {why}; change that, or leave it out"
                )

    def _check_discount(self, name: str) -> None:
        """Check the range of γ or λ."""
        value = getattr(self, name)
        is_learned = name in self.meta_parameters
        if not 0 <= value <= 1:
            bounds = "above 0 and below 1, e.g. 0.99" if is_learned else "within 0 and 1"
            raise UserError(f"learner.{name}={value} is out of range: set it to a number {bounds}")
        if is_learned and value in (0, 1):
            raise UserError(
                f"learner.{name}={value} is learned through a sigmoid, which is never 0 or 1: "
                f"set it to e.g. 0.99, or take {name} out of learner.meta_parameters"
            )

    def _unused(self) -> list[tuple[str, str]]:
        """Names of meta-parameters on which the outer objective does not depend, and why."""
        rules = {
            "learning_rate": self.learning_rate == self.final_learning_rate == 0,
            "entropy_coefficient": self.entropy_coefficient == self.final_entropy_coefficient == 0,
            "value_coefficient": self.value_coefficient == 0,
        }
        found = [(name, f"learner.{name}=0") for name, is_zero in rules.items() if is_zero]
        if self.gamma == 0 and "gamma" not in self.meta_parameters:
            # Credit depends on their product.
            found.append(("gae_lambda", "learner.gamma=0"))
        if self.critic.separate:
            # It would change the critic alone, and the outer objective is the policy's.
            found.append(("value_coefficient", "learner.critic.separate=true"))
        return found

    def check_run(self, run: RunShape) -> None:
        """See `LearnerSettings.check_run`."""
        super().check_run(run)
        # The value after a cut is discounted by γ.
        unused = DISCOUNTS[1:] if run.continues else DISCOUNTS
        if run.trial_steps == 1 and (names := [n for n in unused if n in self.meta_parameters]):
            verb, them = ("has", "it") if len(names) == 1 else ("have", "them")
            raise UserError(
                f"learner.meta_parameters={self.meta_parameters}: {' and '.join(names)} {verb} no "
                f"effect in trials of 1 env step; make trials longer, or leave {them} out"
            )
        if run.precision == "16-mixed":
            raise UserError(
                "trainer.precision=16-mixed with meta-gradients: they have no gradient scaler; "
                "set trainer.precision=bf16-mixed"
            )


class MetaParameters(nn.Module):
    """γ and λ as sigmoids, and the others as positive factors of their settings, of free numbers.

    Args:
        learned: names of those that are learnt, among `NAMES`.
        discounts: γ and λ at the start, inside of (0, 1) where they are learnt.
    """

    def __init__(self, learned: Sequence[str], discounts: Mapping[str, float]) -> None:
        super().__init__()
        self.names = sorted(learned)  # as nn.ParameterDict sorts them
        self._discounts = dict(discounts)

        def start(name: str) -> float:
            value = discounts.get(name)
            return 0.0 if value is None else math.log(value / (1 - value))

        self.free = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(start(name))) for name in self.names}
        )

    def value(self, name: str) -> float | Tensor:
        """γ or λ, or the factor of another one; if it is learnt a tensor, `[]`, with gradients."""
        if name not in self.names:
            return self._discounts.get(name, 1.0)
        free: Tensor = self.free[name]
        return free.sigmoid() if name in DISCOUNTS else free.exp()

    def discounts(self) -> Tensor:
        """γ and λ, `[2]`, with gradients by those that are learnt."""
        some = next(iter(self.free.values()))
        return torch.stack([torch.as_tensor(self.value(name)).to(some) for name in DISCOUNTS])
