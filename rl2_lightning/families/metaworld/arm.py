"""The robot arm, which changes between the kinds of tasks of a benchmark."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box
from numpy.typing import NDArray

if find_spec("metaworld") is None:
    raise DependencyNotInstalled(
        "Meta-World is not installed, run `pip install rl2-lightning[metaworld]`"
    )

from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.types import Task

Array = NDArray[np.float64]
KINDS: tuple[str, ...] = tuple(ALL_V3_ENVIRONMENTS)
NUM_FEATURES, NUM_ACTIONS = 39, 4


class Arm(gymnasium.Env[Array, Any]):
    """A Sawyer arm that is given a kind of task, such as to push, and a goal that it does not see.

    A task has `kind`, an index of `KINDS`; `goal`, `[6]`, numbers that Meta-World has drawn for
    where the object and its goal are; and `size`, how many of them the kind has. The info of a step
    says whether it was a `success`, and the `kind`.
    """

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (NUM_FEATURES,), np.float64)
        self.action_space = Box(-1, 1, (NUM_ACTIONS,), np.float32)
        self._kind = -1
        self._env: Any = None

    def set_task(self, task: Mapping[str, Any]) -> None:
        """Change the task; an episode has to begin next."""
        kind = int(task["kind"])
        name = KINDS[kind]
        if kind != self._kind:
            self.close()
            self._env, self._kind = ALL_V3_ENVIRONMENTS[name](), kind
        goal = np.asarray(task["goal"], np.float64)[: int(task["size"])]
        data = {"rand_vec": goal, "env_cls": type(self._env), "partially_observable": True}
        self._env.set_task(Task(env_name=name, data=pickle.dumps(data)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        observation, _ = self._env.reset()
        return observation, {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, float]]:
        """Play a step."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        told = {"success": float(info["success"]), "kind": float(self._kind)}
        return observation, float(reward), bool(terminated), bool(truncated), told

    def close(self) -> None:
        """Close the simulator."""
        if self._env is not None:
            self._env.close()
            self._env, self._kind = None, -1
