"""Bandits whose arms pay normal rewards of known noise."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning import keys
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.gaussian_bandit import (
    draw_rewards,
    gaussian_bandit_oracles,
    sample_arm_means,
)
from rl2_lightning.oracles.oracle import Oracle


class GaussianBandit(TaskEnv):
    """Arms with unknown means ~ Normal(0, 1) and normal rewards; an episode is one pull.

    The observation, `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        num_arms: K, the number of arms.
        noise: standard deviation of a reward around its arm's mean.
        device: where they are played.

    Raises:
        UserError: there are fewer than two arms, or there is no noise.
    """

    def __init__(
        self,
        num_tasks: int,
        num_arms: int = 5,
        noise: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_arms < 2:
            raise UserError(f"num_arms={num_arms}: a bandit needs at least 2 arms")
        if not noise > 0:
            raise UserError(f"noise={noise}: the standard deviation of a reward is positive")
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(num_arms),
            max_episode_steps=1,
            device=device,
        )
        self.num_arms = num_arms
        self.noise = noise
        self._observation = torch.ones(num_tasks, 1, device=self.device)
        self._ended = torch.ones(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the arms' means, `[num_tasks, K]`."""
        means = sample_arm_means(num_tasks, self.num_arms, self.generator)
        return TensorDict({keys.ARM_MEANS: means}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """A bandit's episode has no state to restore."""
        return self._observation

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pulls one arm of every bandit."""
        reward = draw_rewards(self.expected_reward(action), self.noise, self.generator)
        return self._observation, reward, self._ended

    def expected_reward(self, action: Tensor) -> Tensor:
        """The means of the arms that are pulled, `[B, 1]`, float32."""
        return self.tasks[keys.ARM_MEANS].gather(1, action.unsqueeze(1))

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """Players that know the prior of the means and the noise."""
        return gaussian_bandit_oracles(self.noise, num_episodes)
