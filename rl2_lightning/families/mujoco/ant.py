"""Ants that walk in a hidden direction, or to a hidden place."""

from __future__ import annotations

from typing import Any

import numpy as np

# First, since it tells which package is missing.
from rl2_lightning.families.mujoco.robot import Array, Robot, Step, squares  # isort: skip
from gymnasium.envs.mujoco.ant_v5 import AntEnv

LARGEST_DISTANCE = 3.0


class AntDir(Robot, AntEnv):
    """Walks in a direction of the plane: the task, an angle in radians.

    A step earns the velocity in that direction, and 1, minus half the squares of the action, minus
    the cost of contacts; an episode ends when the torso is lower than 0.2 or higher than 1
    (arXiv 1903.08254, and VariBAD's code, arXiv 1910.08348).
    """

    goal: float = 0.0

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"include_cfrc_ext_in_observation": False, **settings})

    def set_task(self, task: float) -> None:
        """Change the task, an angle."""
        self.goal = float(task)

    def task_as_seen(self) -> Array:
        """The direction, a vector `[2]` of length 1."""
        return np.array([np.cos(self.goal), np.sin(self.goal)])

    def step(self, action: Any) -> Step:
        """Play a step of 0.05 s."""
        start = self.torso()[:2]
        self.do_simulation(action, self.frame_skip)
        velocity = (self.torso()[:2] - start) / self.dt
        progress = np.float64(velocity @ self.task_as_seen())
        reward = progress - 0.5 * squares(action) - self.contact_cost + 1.0
        return self._get_obs(), reward, not self.is_healthy, False, {}


class AntGoal(Robot, AntEnv):
    """Walks to a place: the task, x and y in metres, at most 3 from the start.

    A step earns minus the sum of the distances along both axes, minus a tenth of the squares of the
    action, minus the cost of contacts (VariBAD's code, arXiv 1910.08348). It sees its position and
    the contacts.
    """

    def __init__(self, **settings: Any) -> None:
        self.goal = np.zeros(2)
        super().__init__(**{"exclude_current_positions_from_observation": False, **settings})

    def set_task(self, task: Any) -> None:
        """Change the task, a place `[2]`."""
        self.goal = np.asarray(task, np.float64)

    def task_as_seen(self) -> Array:
        """The place, `[2]`."""
        return self.goal

    def step(self, action: Any) -> Step:
        """Play a step of 0.05 s."""
        self.do_simulation(action, self.frame_skip)
        distance = np.abs(self.torso()[:2] - self.goal).sum()
        reward = -distance - 0.1 * squares(action) - self.contact_cost
        return self._get_obs(), reward, False, False, {}


def draw_place(generator: np.random.Generator) -> Array:
    """Draw a place uniformly from a disc around the start.

    Returns:
        x and y, `[2]`, in metres.
    """
    angle = generator.uniform(0, 2 * np.pi)
    radius = LARGEST_DISTANCE * np.sqrt(generator.uniform())
    return radius * np.array([np.cos(angle), np.sin(angle)])
