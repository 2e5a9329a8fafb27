"""Gymnasium environments for the tests, and their samplers and wrappers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTH = 4  # env steps after which a counter ends the episode itself


class Counting(gymnasium.Env):
    """Counts its steps; a step earns the task times the count, plus the action.

    `ends` says how an episode ends after 4 steps: "never", "terminated" or "truncated"; "mixed"
    terminates after as many steps as the task.
    """

    def __init__(self, task: float = 1.0, ends: str = "never", noise: float = 0.0) -> None:
        self.observation_space = spaces.Box(-1e4, 1e4, (2,))
        self.action_space = spaces.Discrete(3, start=-1)
        self.task, self.ends, self.noise = task, ends, noise
        self.count = self.episodes = 0
        self.closed = False

    def set_task(self, task: float) -> None:
        self.task = np.asarray(task).item()

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        if options and "task" in options:
            self.task = np.asarray(options["task"]).item()
        self.count = 0
        self.episodes = 1 if seed is not None else self.episodes + 1
        return self.shown(), {}

    def step(self, action: int):
        assert self.action_space.contains(action)
        self.count += 1
        reward = self.task * self.count + action + self.noise * self.np_random.normal()
        length = {"never": 10**6, "mixed": int(self.task)}.get(self.ends, LENGTH)
        ended = self.count >= length
        is_cut = self.ends == "truncated"
        return self.shown(), reward, ended and not is_cut, ended and is_cut, {}

    def shown(self) -> Any:
        return np.array([self.count, self.episodes], np.float32)


class Several(Counting):
    """Shows several things, and takes several actions at once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.action_space = spaces.MultiDiscrete([3, 2])
        self.observation_space = spaces.Dict({
            "number": spaces.Discrete(9, start=1),
            "picture": spaces.Box(0, 255, (14, 15, 3), np.uint8),
            "flags": spaces.MultiBinary(2),
            "inner": spaces.Dict({"double": spaces.Box(-np.inf, np.inf, (1,), np.float64)}),
        })  # fmt: skip

    def step(self, action: np.ndarray):
        assert self.action_space.contains(action)
        self.count += 1
        reward = self.task * self.count + float(action @ [1, 10])
        return self.shown(), reward, self.count >= LENGTH, False, {}

    def shown(self) -> Any:
        picture = np.zeros((14, 15, 3), np.uint8)
        picture[self.count, :, 2] = 200
        return {
            "number": np.int64(self.count + 1),
            "picture": picture,
            "flags": np.array([1, self.count % 2], np.int8),
            "inner": {"double": np.array([self.count / 3])},
        }


class Pushing(Counting):
    """Takes numbers within bounds of their own."""

    def __init__(self, bound: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.action_space = spaces.Box(-bound, bound, (2, 1), np.float64)

    def step(self, action: np.ndarray):
        assert self.action_space.contains(action)
        self.count += 1
        return self.shown(), self.task * float(action.sum()), False, False, {}


class Telling(Counting):
    """Tells its count, and from the step of its task on whether it is in time."""

    def step(self, action: int):
        *others, _ = super().step(action)
        info: dict[str, Any] = {"count": self.count, "noise": "some"}
        if self.count >= self.task:
            info["in_time"] = np.bool_(self.count == self.task)
        return *others, info


REWARDS = {"words": "much", "nothing": None, "endless": float("inf")}


class Faulty(Counting):
    """Goes wrong in the second step of tasks above 1, in the way that `fault` names."""

    def __init__(self, fault: str = "none", **options: Any) -> None:
        super().__init__(**options)
        self.fault = fault

    def step(self, action: int):
        _, *others = super().step(action)
        if self.count != 2 or self.task <= 1:
            return self.shown(), *others
        if self.fault == "raises":
            raise ZeroDivisionError("the pole is\nnowhere")
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "hangs":
            time.sleep(1000)
        if self.fault in REWARDS:
            return self.shown(), REWARDS[self.fault], *others[1:]
        shown = {
            "nan": np.array([np.nan, 0], np.float32),
            "outside": np.array([2e4, 0], np.float32),
            "narrow": np.zeros(1, np.float32),
        }
        return shown[self.fault], *others


class Threads(Counting):
    """Shows how many threads a library may use, and whether torch has been imported."""

    def shown(self) -> Any:
        return np.array([int(os.environ["OMP_NUM_THREADS"]), "torch" in sys.modules], np.float32)


class Doubling(gymnasium.Wrapper):
    """Doubles rewards, or multiplies them with its task."""

    def __init__(self, env: gymnasium.Env, factor: float = 2.0) -> None:
        super().__init__(env)
        self.factor = factor

    def step(self, action: int):
        shown, reward, *others = self.env.step(action)
        return shown, reward * self.factor, *others


def draw(generator: np.random.Generator) -> float:
    return float(generator.uniform(1, 3))


def draw_dictionary(generator: np.random.Generator) -> dict[str, Any]:
    return {"task": generator.uniform(1, 3)}


def draw_array(generator: np.random.Generator) -> np.ndarray:
    return generator.uniform(1, 3, (1,))


def draw_nothing(generator: np.random.Generator) -> None:
    return None


def draw_any_shape(generator: np.random.Generator) -> np.ndarray:
    return np.ones(generator.integers(1, 9))


def fail(generator: np.random.Generator) -> None:
    raise LookupError("no more tasks")


class Alive(Counting):
    """Counts how many of it there are that have not been closed."""

    num = most = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        Alive.num += 1
        Alive.most = max(Alive.most, Alive.num)

    def close(self) -> None:
        Alive.num -= not self.closed
        self.closed = True


class Closing(Counting):
    """Leaves a file in a folder when it is closed."""

    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self.folder = folder

    def close(self) -> None:
        Path(self.folder, f"{os.getpid()}_{id(self)}").touch()


class OfSeveral(Several):
    """Shows another value in the part that `fault` names; a number fills a picture."""

    def __init__(self, fault: str = "", value: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.fault, self.value = fault, value

    def shown(self) -> Any:
        shown = super().shown()
        if self.count == 2:
            place = shown["inner"] if self.fault == "double" else shown
            is_flat = np.ndim(self.value) == 0 and self.fault == "picture"
            filled = np.full((14, 15, 3), self.value, np.int16) if is_flat else self.value
            place[self.fault] = np.asarray(filled)
        return shown


FEW_TASKS = [1, 2, 3]
NO_TASKS: list[int] = []


class Leaving(Counting):
    """Leaves the number of its process in a folder, and may go wrong like `Faulty` at a count.

    Its constructor may take some time, in seconds, and, in a worker, start a process of its own.
    """

    def __init__(
        self,
        folder: str,
        fault: str = "none",
        at: int = 1,
        delay: float = 0.0,
        child: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.fault, self.at, self.steps = fault, at, 0
        (Path(folder) / f"{os.getpid()}").touch()
        if child and "torch" not in sys.modules:  # which a worker does not import
            started = subprocess.Popen(["sleep", "1000"])
            (Path(folder) / f"{started.pid}").touch()
        time.sleep(delay)

    def step(self, action: int):
        self.steps += 1
        if self.steps == self.at and self.fault == "raises":
            raise ZeroDivisionError("the pole is nowhere")
        if self.steps == self.at and self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.steps == self.at and self.fault == "hangs":
            time.sleep(1000)
        return super().step(action)
