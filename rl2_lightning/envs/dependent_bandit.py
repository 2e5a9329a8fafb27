"""Bernoulli bandits of two arms that depend on each other (arXiv 1611.05763, section 3.1)."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.envs.bernoulli_bandit import BernoulliBandit
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.dependent_bandit import DependentPrior, dependent_bandit_oracles
from rl2_lightning.oracles.oracle import Oracle


class DependentBandit(BernoulliBandit):
    """Two arms that pay 1 with probability p and 1 - p; an episode is one pull.

    The observation, `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        worse_arm: probability of the worse of the arms, either of which may be the first; None
            to draw that of the first arm from U[0, 1].
        device: where they are played.

    Raises:
        UserError: the worse arm's probability is outside of [0, 0.5].
    """

    def __init__(
        self,
        num_tasks: int,
        worse_arm: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if worse_arm is not None and not 0 <= worse_arm <= 0.5:
            raise UserError(f"worse_arm={worse_arm}: the worse arm pays with 0 to 0.5")
        super().__init__(num_tasks, num_arms=2, device=device)
        self.prior = DependentPrior(worse_arm)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the arms' probabilities, `[num_tasks, 2]`."""
        probabilities = self.prior.sample(num_tasks, self.generator)
        return TensorDict({keys.ARM_PROBABILITIES: probabilities}, [num_tasks], self.device)

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """Players that know that the arms depend on each other, and such that do not."""
        return dependent_bandit_oracles(self.prior, num_episodes)
