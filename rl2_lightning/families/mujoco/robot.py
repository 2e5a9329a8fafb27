"""What the robots have in common: a task that is hidden, or told."""

from __future__ import annotations

from abc import abstractmethod
from importlib.util import find_spec
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

if find_spec("mujoco") is None:
    raise DependencyNotInstalled("MuJoCo is not installed, run `pip install rl2-lightning[mujoco]`")

from gymnasium.envs.mujoco import MujocoEnv

Array = NDArray[np.float64]
Step = tuple[Array, np.float64, bool, bool, dict[str, np.float64]]


class Robot(MujocoEnv, EzPickle):
    """One of Gymnasium's robots, with a task.

    A class of a robot extends this one and then Gymnasium's, whose model, start and observations it
    has where it does not say otherwise.

    Args:
        told: whether observations end with the task. A policy that is trained with it shows what
            can be earned by one who knows the task.
        **settings: arguments of Gymnasium's robot.

    Attributes:
        told: the argument.
    """

    def __init__(self, told: bool = False, **settings: Any) -> None:
        self.told = told
        super().__init__(**settings)
        EzPickle.__init__(self, told=told, **settings)
        size = len(self._get_obs())
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float64)

    @abstractmethod
    def set_task(self, task: Any) -> None:
        """Change the task; an episode has to begin next."""

    @abstractmethod
    def task_as_seen(self) -> Array:
        """The task as a player sees it that is told it, `[K]`."""

    def seen(self) -> Array:
        """What every player sees, `[N]`."""
        observation: Array = super()._get_obs()  # type: ignore[misc]  # of Gymnasium's robot
        return observation

    def torso(self) -> Array:
        """The position of the torso, `[3]`, in metres."""
        position: Array = self.data.body("torso").xpos.copy()
        return position

    def _get_obs(self) -> Array:  # Gymnasium's hook
        seen = self.seen()
        return np.concatenate([seen, self.task_as_seen()]) if self.told else seen


def squares(numbers: Any) -> np.float64:
    """The sum of the squares of some numbers."""
    return np.square(numbers).sum(dtype=np.float64)
