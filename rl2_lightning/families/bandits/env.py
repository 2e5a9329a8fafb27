"""The base environments of bandits."""

from abc import abstractmethod

import torch
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning.families.task_env import TaskEnv

ARM_PROBABILITIES = "arm_probabilities"  # [B, K], float32


class BanditEnv(TaskEnv):
    """Bandits: the observation, `[B, 1]`, is the constant 1, and an episode is one pull.

    Args:
        num_tasks: B, the number of bandits played at once.
        num_arms: K, the number of arms.
        device: where they are played.
        max_pulls: length at which an episode is cut, in families that do not end it after a pull.
    """

    def __init__(
        self, num_tasks: int, num_arms: int, device: torch.device | str, max_pulls: int = 1
    ) -> None:
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(num_arms),
            max_episode_steps=max_pulls,
            device=device,
        )
        self._observation = torch.ones(num_tasks, 1, device=self.device)
        self._ended = torch.ones(num_tasks, 1, dtype=torch.bool, device=self.device)

    @abstractmethod
    def pull(self, action: Tensor, playing: Tensor) -> Tensor:
        """Pull an arm of every bandit; see `advance`.

        Returns:
            Reward, `[B, 1]`, float32.
        """

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Do nothing: a bandit's episode has no state."""
        return self._observation

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pull an arm of every bandit."""
        return self._observation, self.pull(action, playing), self._ended


class BernoulliArms(BanditEnv):
    """Arms that pay 1 with the probabilities of the task."""

    def pull(self, action: Tensor, playing: Tensor) -> Tensor:
        """Pay 1 or nothing."""
        draw = torch.rand(self.num_tasks, 1, generator=self.generator, device=self.device)
        return (draw < self.expected_reward(action)).float()

    def expected_reward(self, action: Tensor) -> Tensor:
        """The probabilities with which the arms pay, `[B, 1]`, float32."""
        return self.tasks[ARM_PROBABILITIES].gather(1, action.unsqueeze(1))
