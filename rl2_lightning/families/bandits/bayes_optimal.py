"""The Bayes-optimal player of Bernoulli bandits, for trials with a small dynamic program."""

from functools import cached_property

import torch
from torch import Tensor

from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.arm_multiset_program import ArmMultisetProgram
from rl2_lightning.families.bandits.policies import BanditPlayer, Tally
from rl2_lightning.families.bandits.two_arm_program import TwoArmProgram
from rl2_lightning.inputs import Observation

MAX_PULLS = 16  # with any number of arms: half a second, 91 000 states
MAX_PULLS_OF_TWO_ARMS = 128  # a second, 67 MB


class BayesOptimal(BanditPlayer):
    """Maximises the expected return of a trial under the prior Beta(1, 1) of each arm.

    Uses backward induction over the posterior in float64, solved at first use.

    Args:
        num_arms: K, the number of arms.
        num_pulls: length of a trial, in pulls.

    Raises:
        UserError: the dynamic program would be too large.
    """

    def __init__(self, num_arms: int, num_pulls: int) -> None:
        if not is_tractable(num_arms, num_pulls):
            raise UserError(
                f"num_arms={num_arms}, num_pulls={num_pulls}: the exact optimum is computed for "
                f"trials of up to {MAX_PULLS} pulls, or {MAX_PULLS_OF_TWO_ARMS} with two arms; "
                "play GittinsIndex instead"
            )
        super().__init__(num_arms)
        self.num_pulls = num_pulls

    @property
    def value(self) -> float:
        """The exact expected return of a trial, in units of reward."""
        return self._program.value

    def prepare(self) -> None:
        """Solve the program."""
        _ = self._program

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick an optimal arm."""
        memory.next_pull(self.num_pulls)
        return self._program.best_arm(memory)

    @cached_property
    def _program(self) -> ArmMultisetProgram | TwoArmProgram:
        if self.num_pulls <= MAX_PULLS:
            return ArmMultisetProgram(self.num_arms, self.num_pulls)
        return TwoArmProgram(self.num_pulls)


def is_tractable(num_arms: int, num_pulls: int) -> bool:
    """Whether the exact optimum of a bandit is cheap to compute."""
    return num_pulls <= (MAX_PULLS_OF_TWO_ARMS if num_arms == 2 else MAX_PULLS)
