"""Humanoids that walk in a hidden direction."""

from __future__ import annotations

from typing import Any

import numpy as np

# First, since it tells which package is missing.
from rl2_lightning.families.mujoco.robot import Array, Robot, Step, squares  # isort: skip
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv, mass_center


class HumanoidDir(Robot, HumanoidEnv):
    """Walks in a direction of the plane: the task, an angle in radians.

    A step earns 1.25 times the velocity of its centre of mass in that direction, and 5, minus a
    tenth of the squares of the action, minus the cost of contacts; an episode ends when it falls
    (arXiv 1903.08254, and VariBAD's code, arXiv 1910.08348).
    """

    goal: float = 0.0

    def set_task(self, task: float) -> None:
        """Change the task, an angle."""
        self.goal = float(task)

    def task_as_seen(self) -> Array:
        """The direction, a vector `[2]` of length 1."""
        return np.array([np.cos(self.goal), np.sin(self.goal)])

    def step(self, action: Any) -> Step:
        """Play a step of 0.015 s."""
        start = mass_center(self.model, self.data)
        self.do_simulation(action, self.frame_skip)
        velocity = (mass_center(self.model, self.data) - start) / self.dt
        progress = 1.25 * np.float64(velocity @ self.task_as_seen())
        reward = progress - 0.1 * squares(action) - self.contact_cost + 5.0
        return self._get_obs(), reward, not self.is_healthy, False, {}
