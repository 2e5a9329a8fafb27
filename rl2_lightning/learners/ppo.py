"""Proximal policy optimisation (arXiv 1707.06347) over trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.errors import UserError
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.actor_critic_settings import ActorCriticSettings
from rl2_lightning.learners.clipped_loss import policy_loss, value_loss
from rl2_lightning.learners.learner import LearnerSettings, RunShape
from rl2_lightning.learners.ranks import over_all_ranks
from rl2_lightning.settings import between


@dataclass
class PPOSettings(ActorCriticSettings):
    """Settings of PPO.

    Attributes:
        clip_epsilon: clipping range of the probability ratio around 1.
        value_clip: clipping range of the value around the old one, in units of the value scale;
            None for no clipping.
        value_coefficient: weight of the critic's loss.
        num_epochs: passes over the windows of an iteration.
        target_kl: KL divergence from the old policy above which an iteration makes no more updates;
            None for no limit.
    """

    clip_epsilon: float = between(0, default=0.2)
    value_clip: float | None = between(0, default=None)
    value_coefficient: float = between(1e-6, 1e30, default=0.5)
    num_epochs: int = between(1, default=4)
    target_kl: float | None = between(0, default=None)

    @property
    def num_passes(self) -> int:
        """See `ActorCriticSettings.num_passes`."""
        return self.num_epochs

    def check_run(self, run: RunShape) -> None:
        """See `LearnerSettings.check_run`."""
        super().check_run(run)
        if run.precision == "16-mixed" and self.target_kl is not None:
            raise UserError(
                f"learner.target_kl={self.target_kl} with trainer.precision=16-mixed: the "
                "gradient scaler does not allow skipped updates; set trainer.precision=bf16-mixed"
            )


class PPO(ActorCriticLearner):
    """PPO on windows of trials, with credit across episode boundaries.

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.
    """

    Settings: ClassVar[type[LearnerSettings]] = PPOSettings
    can_be_recorded = True

    def __init__(
        self,
        agent: Agent,
        settings: PPOSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings: PPOSettings = settings
        self._stopped = False

    def on_train_epoch_start(self) -> None:
        """Begin an iteration; see `ActorCriticLearner.on_train_epoch_start`."""
        super().on_train_epoch_start()
        self._stopped = False

    def window_loss(self, minibatch: TensorDictBase) -> Tensor:
        """The clipped loss of a minibatch of windows `[N]`."""
        return self.no_update() if self._stopped else super().window_loss(minibatch)

    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `ActorCriticLearner.loss_of`."""
        settings = self.settings
        policy = self.agent.policy(steps.get(keys.FEATURES))
        clipped = policy_loss(
            policy,
            steps.get(keys.ACTION),
            steps.get(keys.ACTION_LOG_PROB),
            steps.get(keys.ADVANTAGE).squeeze(-1),
            settings.clip_epsilon,
        )
        errors = value_loss(
            steps.get(keys.STATE_VALUE).float(),
            steps.get(keys.OLD_STATE_VALUE),
            steps.get(keys.VALUE_TARGET),
            settings.value_clip,
        )
        entropy = policy.entropy()
        of_policy, of_value = self.mean(clipped.loss, steps), self.mean(errors.squeeze(-1), steps)
        of_entropy = -self.entropy_weight * self.mean(entropy, steps)
        log_ratio = clipped.log_ratio
        return of_policy + settings.value_coefficient * of_value + of_entropy, {
            "policy_loss": of_policy,
            "value_loss": of_value,
            "entropy_loss": of_entropy,
            "entropy": entropy.detach().mean(),
            # Low-variance estimator of KL(old || new): mean of ratio - 1 - log(ratio).
            "approximate_kl": (log_ratio.expm1() - log_ratio).mean(),
            "clip_fraction": clipped.is_clipped.float().mean(),
        }

    def mean(self, numbers: Tensor, steps: TensorDictBase) -> Tensor:
        """The mean of numbers, `[M]`, over lined-up steps, `[M]`."""
        return numbers.mean()

    def is_left_out(self, diagnostics: Mapping[str, Tensor], num_steps: int) -> bool:
        """Stop the iteration's updates once the policy has moved too far."""
        if self.settings.target_kl is None:
            return False
        # All ranks decide on the same number; a rank that updates alone would wait forever.
        counts = torch.full((1,), num_steps, device=self.device)
        sums = torch.zeros(1, device=self.device)
        if num_steps:
            sums = num_steps * diagnostics["approximate_kl"].detach().reshape(1)
        total, count = over_all_ranks(sums).sum(), over_all_ranks(counts).sum()
        self._stopped = bool(total > self.settings.target_kl * count)
        return self._stopped
