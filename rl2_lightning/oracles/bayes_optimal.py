"""The Bayes-optimal player of Bernoulli bandits, where its dynamic program is small."""

from functools import cached_property

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.arm_multiset_program import ArmMultisetProgram
from rl2_lightning.oracles.bandit_policies import BanditPolicy
from rl2_lightning.oracles.two_arm_program import TwoArmProgram

MAX_PULLS = 16  # with any number of arms: half a second, 91 000 states
MAX_PULLS_OF_TWO_ARMS = 128  # a second, 67 MB


class BayesOptimal(BanditPolicy):
    """Maximises the expected return of a trial under the prior Beta(1, 1) of each arm.

    Backward induction over the posterior, in float64, solved at the first use.

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
        self.num_arms = num_arms
        self.horizon: int = num_pulls

    @property
    def value(self) -> float:
        """The exact expected return of a trial, in units of reward."""
        return self._program.value

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every bandit; see `BanditPolicy.play`.

        Raises:
            UserError: the player is made for another number of arms or pulls.
        """
        num_arms = tasks[keys.ARM_PROBABILITIES].shape[1]
        if num_arms != self.num_arms:
            raise UserError(
                f"bandits of {num_arms} arms: this BayesOptimal is made for {self.num_arms}; "
                f"build one with num_arms={num_arms}"
            )
        return super().play(tasks, num_episodes, generator)

    def choose(
        self, successes: Tensor, failures: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks an optimal arm; see `BanditPolicy.choose`."""
        return self._program.best_arm(successes, failures, pull)

    @cached_property
    def _program(self) -> ArmMultisetProgram | TwoArmProgram:
        if self.horizon <= MAX_PULLS:
            return ArmMultisetProgram(self.num_arms, self.horizon)
        return TwoArmProgram(self.horizon)


def is_tractable(num_arms: int, num_pulls: int) -> bool:
    """Tells whether the exact optimum of a bandit is cheap to compute."""
    return num_pulls <= (MAX_PULLS_OF_TWO_ARMS if num_arms == 2 else MAX_PULLS)
