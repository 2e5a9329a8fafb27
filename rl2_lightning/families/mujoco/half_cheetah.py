"""Half-cheetahs that run in a hidden direction, or at a hidden speed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

# First, since it tells which package is missing.
from rl2_lightning.families.mujoco.robot import Array, Robot, Step, squares  # isort: skip
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv


class _HalfCheetah(Robot, HalfCheetahEnv):
    """A half-cheetah that also sees where its torso is, as in VariBAD's code (arXiv 1910.08348)."""

    goal: float = 1.0

    def set_task(self, task: float) -> None:
        """Change the task, a number."""
        self.goal = float(task)

    def task_as_seen(self) -> Array:
        """The task, `[1]`."""
        return np.array([self.goal])

    def seen(self) -> Array:
        """Angles and velocities of the joints, and the position of the torso, `[20]`."""
        return np.concatenate([super().seen(), self.torso()])

    def step(self, action: Any) -> Step:
        """Play a step of 0.05 s."""
        start = self.data.qpos[0]
        self.do_simulation(action, self.frame_skip)
        velocity = np.float64(self.data.qpos[0] - start) / self.dt
        reward = self.reward_of(velocity) - 0.05 * squares(action)
        return self._get_obs(), reward, False, False, {}

    @abstractmethod
    def reward_of(self, velocity: np.float64) -> np.float64:
        """What a velocity, in m/s, earns."""


class HalfCheetahDir(_HalfCheetah):
    """Runs forward or backward: the task is 1 or −1.

    A step earns the velocity in that direction minus 0.05 times the squares of the action
    (arXiv 1703.03400).
    """

    def reward_of(self, velocity: np.float64) -> np.float64:
        """The velocity in the direction of the task."""
        return self.goal * velocity


class HalfCheetahVel(_HalfCheetah):
    """Runs at a speed: the task, in m/s.

    A step earns minus the distance from that speed, minus 0.05 times the squares of the action
    (arXiv 1703.03400, with the speeds up to 3 of arXiv 1903.08254).
    """

    def reward_of(self, velocity: np.float64) -> np.float64:
        """Minus the distance from the speed of the task."""
        return -abs(velocity - self.goal)
