"""Bernoulli bandits (arXiv 1611.02779, section 3.1)."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning import keys
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.bandits import bernoulli_bandit_oracles
from rl2_lightning.oracles.oracle import Oracle


class BernoulliBandit(TaskEnv):
    """Arms that pay 1 with an unknown probability p ~ U[0, 1]; an episode is one pull.

    The observation, `[B, 1]`, is the constant 1: a bandit has a single state.

    Args:
        num_tasks: B, the number of bandits played at once.
        num_arms: K, the number of arms.
        device: where they are played.

    Raises:
        UserError: there are fewer than two arms.
    """

    def __init__(
        self, num_tasks: int, num_arms: int = 5, device: torch.device | str = "cpu"
    ) -> None:
        if num_arms < 2:
            raise UserError(f"num_arms={num_arms}: a bandit needs at least 2 arms")
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(num_arms),
            max_episode_steps=1,
            device=device,
        )
        self.num_arms = num_arms
        self._observation = torch.ones(num_tasks, 1, device=self.device)
        self._ended = torch.ones(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the arms' probabilities, `[num_tasks, K]`."""
        probabilities = torch.rand(
            num_tasks, self.num_arms, generator=self.generator, device=self.device
        )
        return TensorDict({keys.ARM_PROBABILITIES: probabilities}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """A bandit's episode has no state to restore."""
        return self._observation

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pulls one arm of every bandit."""
        draw = torch.rand(self.num_tasks, 1, generator=self.generator, device=self.device)
        return self._observation, (draw < self.expected_reward(action)).float(), self._ended

    def expected_reward(self, action: Tensor) -> Tensor:
        """The probability with which the arms pay."""
        return self.tasks[keys.ARM_PROBABILITIES].gather(1, action.unsqueeze(1))

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """The classical players of bandits."""
        return bernoulli_bandit_oracles(self.num_arms, num_episodes)
