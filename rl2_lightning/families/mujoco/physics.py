"""Walkers and hoppers whose bodies are drawn: masses, inertias, damping and friction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# First, since it tells which package is missing.
from rl2_lightning.families.mujoco.robot import Array, Robot, Step, squares  # isort: skip
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

LARGEST_EXPONENT = 3.0
# The arrays of MuJoCo's model that are drawn, and the base of their factors.
BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
Physics = dict[str, Array]


class _DrawnPhysics(Robot):
    """A robot that runs forward with physics of its own.

    The task gives an exponent e for each entry of the model's arrays, which become 1.5^e times
    their own values, or 1.3^e for damping. Nothing that MuJoCo derives from them is computed anew.
    A step earns the velocity, and 1, minus a thousandth of the squares of the action; an episode
    ends when the robot falls (`rand_param_envs`, with arXiv 1810.06784, as in VariBAD's code,
    arXiv 1910.08348).
    """

    is_healthy: bool  # Gymnasium's

    def __init__(self, **settings: Any) -> None:
        self._exponents: Physics = {}
        super().__init__(**settings)

    def set_task(self, task: Mapping[str, Any]) -> None:
        """Change the task, exponents of the shape of each array that is drawn."""
        for name, own in self._own.items():
            exponents = np.asarray(task[name], np.float64)
            if exponents.shape != own.shape:
                raise ValueError(f"{name} is of shape {exponents.shape}, the robot's {own.shape}")
            getattr(self.model, name)[:] = own * BASES[name] ** exponents
            self._exponents[name] = exponents

    def task_as_seen(self) -> Array:
        """The exponents, in the order of `BASES`."""
        return np.concatenate([self._exponents[name].flatten() for name in BASES])

    def step(self, action: Any) -> Step:
        """Play a step of 0.008 s."""
        start = self.data.qpos[0]
        self.do_simulation(action, self.frame_skip)
        velocity = np.float64(self.data.qpos[0] - start) / self.dt
        reward = velocity + 1.0 - 1e-3 * squares(action)
        return self._get_obs(), reward, not self.is_healthy, False, {}

    def _initialize_simulation(self) -> Any:  # Gymnasium's hook
        model, data = super()._initialize_simulation()
        self._own = {name: getattr(model, name).copy() for name in BASES}
        self._exponents = {name: np.zeros_like(own) for name, own in self._own.items()}
        return model, data


class WalkerPhysics(_DrawnPhysics, Walker2dEnv):
    """A two-legged walker."""


class HopperPhysics(_DrawnPhysics, HopperEnv):
    """A one-legged hopper."""


def draw_walker(generator: np.random.Generator) -> Physics:
    """Draw the physics of a walker: exponents between −3 and 3."""
    return _draw(generator, num_bodies=8, num_dofs=9)


def draw_hopper(generator: np.random.Generator) -> Physics:
    """Draw the physics of a hopper: exponents between −3 and 3."""
    return _draw(generator, num_bodies=5, num_dofs=6)


def _draw(generator: np.random.Generator, num_bodies: int, num_dofs: int) -> Physics:
    # Both robots have one geometry for each body; that of the world is the floor.
    shapes = [(num_bodies,), (num_bodies, 3), (num_dofs,), (num_bodies, 3)]
    return {
        name: generator.uniform(-LARGEST_EXPONENT, LARGEST_EXPONENT, shape)
        for name, shape in zip(BASES, shapes, strict=True)
    }
