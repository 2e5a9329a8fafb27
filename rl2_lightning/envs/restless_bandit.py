"""Two-armed bandits whose probabilities drift within a trial (arXiv 1611.05763, section 3.1)."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning import keys
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.restless_bandit import (
    DriftLaw,
    arm_probability,
    drift,
    pull_arms,
    restless_bandit_oracles,
)


class RestlessBandit(TaskEnv):
    """Two arms that pay 1 with p and 1 - p, where p drifts after each pull; an episode is one pull.

    p starts where the task says, and goes on from episode to episode until a task is set anew. How
    it drifts is drawn from the environment's generator. The observation, `[B, 1]`, is the
    constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        low_volatility: standard deviation of the drift a pull, in half of the tasks.
        high_volatility: the same in the other half.
        device: where they are played.

    Raises:
        UserError: a volatility is outside of [0, 1], or the low one is above the high one.
    """

    def __init__(
        self,
        num_tasks: int,
        low_volatility: float = 0.02,
        high_volatility: float = 0.1,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value in {"low": low_volatility, "high": high_volatility}.items():
            if not 0 <= value <= 1:
                raise UserError(f"{name}_volatility={value}: a volatility lies in 0 to 1")
        if low_volatility > high_volatility:
            raise UserError(
                f"low_volatility={low_volatility} is above high_volatility={high_volatility}: "
                "let them change places"
            )
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(2),
            max_episode_steps=1,
            device=device,
        )
        self.law = DriftLaw(low_volatility, high_volatility)
        self._probability = torch.zeros(num_tasks, 1, device=self.device)
        self._observation = torch.ones(num_tasks, 1, device=self.device)
        self._ended = torch.ones(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws where p starts, and the volatility, each `[num_tasks, 1]`."""
        return self.law.sample(num_tasks, self.generator)

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Puts new tasks into some rows, and p to its start there; see `TaskEnv.set_tasks`."""
        super().set_tasks(tasks, rows)
        start = self.tasks[keys.FIRST_ARM_PROBABILITY]
        self._probability = torch.where(rows, start, self._probability)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Restores nothing: the drift goes on."""
        return self._observation

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pulls one arm of every bandit, and then lets p drift."""
        reward = pull_arms(self._probability, action, self.generator)
        volatility = self.tasks[keys.VOLATILITY]
        self._probability = drift(self._probability, volatility, self.generator)
        return self._observation, reward, self._ended

    def expected_reward(self, action: Tensor) -> Tensor:
        """The present probabilities of the arms, `[B, 1]`, float32."""
        return arm_probability(self._probability, action)

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """Players that take the arms for stationary, and one that knows how they drift."""
        return restless_bandit_oracles(self.law, num_episodes)
