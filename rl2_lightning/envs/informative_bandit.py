"""A bandit of eleven arms, one of which is informative (arXiv 1611.05763, section 3.1)."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.oracles.informative_bandit import (
    NUM_ARMS,
    arm_rewards,
    informative_bandit_oracles,
    sample_targets,
)
from rl2_lightning.oracles.oracle import Oracle


class InformativeBandit(TaskEnv):
    """Ten arms of which the target pays 5 and the others 1, and one that tells the target.

    The eleventh arm, 10, pays a tenth of the target's number, 1 to 10. Nothing is random but the
    target. An episode is one pull. The observation, `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        device: where they are played.
    """

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu") -> None:
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(NUM_ARMS),
            max_episode_steps=1,
            device=device,
        )
        self._observation = torch.ones(num_tasks, 1, device=self.device)
        self._ended = torch.ones(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the targets, one-hot, `[num_tasks, 10]`."""
        return sample_targets(num_tasks, self.generator)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """A bandit's episode has no state to restore."""
        return self._observation

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pulls one arm of every bandit."""
        return self._observation, self.expected_reward(action), self._ended

    def expected_reward(self, action: Tensor) -> Tensor:
        """What the arms pay, `[B, 1]`, float32; there is no noise in it."""
        return arm_rewards(self.tasks).gather(1, action.unsqueeze(1))

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """Random play, Thompson sampling, and the exact optimum."""
        return informative_bandit_oracles()
