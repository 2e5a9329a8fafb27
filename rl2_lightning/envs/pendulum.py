"""Pendulums of drawn physics that are to be swung up, native and batched."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded, Unbounded

from rl2_lightning import keys
from rl2_lightning.envs.physics import checked_ranges
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.pendulum import LARGEST_TORQUE, pendulum_oracles, start_state, swing
from rl2_lightning.oracles.physics import draw_physics


class Pendulum(TaskEnv):
    """Swing up a pendulum whose physics is not told, with a torque too weak to lift it.

    A step is that of gymnasium's Pendulum-v1, also its reward. The observation, `[B, 3]`, float32,
    is cosine and sine of the angle from the top, and the angular velocity. An action, `[B, 1]`,
    float32, is a torque in [-2, 2].

    Args:
        num_tasks: B, the number of pendulums played at once.
        mass: range from which it is drawn, in kilograms.
        length: its range, in metres.
        gravity: its range, in metres a second squared.
        flips: whether in half of the tasks the torque is turned round.
        horizon: length of an episode, in env steps.
        device: where they are played.

    Raises:
        UserError: a range is not of two positive numbers in order.
    """

    def __init__(
        self,
        num_tasks: int,
        mass: Sequence[float] = (0.7, 1.3),
        length: Sequence[float] = (0.8, 1.2),
        gravity: Sequence[float] = (7.0, 13.0),
        flips: bool = True,
        horizon: int = 100,
        device: torch.device | str = "cpu",
    ) -> None:
        self.ranges = checked_ranges({keys.MASS: mass, keys.LENGTH: length, keys.GRAVITY: gravity})
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((3,)),
            action_spec=Bounded(-LARGEST_TORQUE, LARGEST_TORQUE, (1,)),
            max_episode_steps=horizon,
            device=device,
        )
        self.flips = flips
        self._state = torch.zeros(num_tasks, 2, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the physics."""
        return draw_physics(num_tasks, self.ranges, self.flips, self.generator)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Lets the rows go at any angle."""
        self._state = torch.where(rows, start_state(self.num_tasks, self.generator), self._state)
        return self._observation

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Swings every pendulum."""
        self._state, reward = swing(self._state, action, self.tasks)
        return self._observation, reward, self._never

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """A random player, and one that knows the physics."""
        return pendulum_oracles(self.max_episode_steps)

    @property
    def _observation(self) -> Tensor:
        angle, velocity = self._state.split(1, dim=-1)
        return torch.cat([angle.cos(), angle.sin(), velocity], dim=-1)
