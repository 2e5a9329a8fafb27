"""The tasks of ML1, ML10 and ML45, to train on and held out.

They are named as `ML10.training`, `ML45.held_out` or `ML1.push-v3.training`.
"""

from __future__ import annotations

import pickle
from importlib.metadata import version
from typing import Any

import numpy as np

# First, since it tells whether the package is missing.
from rl2_lightning.families.metaworld.arm import KINDS  # isort: skip
import metaworld

from rl2_lightning.families.cache import cached_array

SEED = 1  # of the goals
LARGEST_GOAL = 6
NUM_GOALS = 50  # of each kind
NUM_KINDS = {"ML1": (1, 1), "ML10": (10, 5), "ML45": (45, 5)}
Tasks = list[dict[str, Any]]


class Split:
    """The tasks of a benchmark.

    They are drawn once, which takes a second of simulation for each kind, and then kept in the
    user's cache.

    Args:
        benchmark: "ML1", "ML10" or "ML45".
        kind: of ML1, the kind of task.
    """

    def __init__(self, benchmark: str, kind: str | None = None) -> None:
        self._benchmark = benchmark
        self._kind = kind

    @property
    def training(self) -> Tasks:
        """The tasks to train on: 50 of each kind."""
        return self._tasks(held_out=False)

    @property
    def held_out(self) -> Tasks:
        """The tasks of the test: 50 of each kind, which ML10 and ML45 do not train on."""
        return self._tasks(held_out=True)

    def _tasks(self, held_out: bool) -> Tasks:
        count = NUM_KINDS[self._benchmark][held_out] * NUM_GOALS
        place = "_".join(filter(None, (self._benchmark, self._kind, "test" if held_out else None)))
        name = f"metaworld_{version('metaworld')}_{place}_seed{SEED}"
        table = cached_array(name, (count, 2 + LARGEST_GOAL), lambda: self._draw(held_out))
        return [{"kind": int(kind), "size": int(size), "goal": goal} for kind, size, *goal in table]

    def _draw(self, held_out: bool) -> np.ndarray[Any, Any]:
        given = () if self._kind is None else (self._kind,)
        drawn = getattr(metaworld, self._benchmark)(*given, seed=SEED)
        rows = []
        for task in drawn.test_tasks if held_out else drawn.train_tasks:
            goal = pickle.loads(task.data)["rand_vec"]  # which Meta-World has pickled just now
            padding = [0.0] * (LARGEST_GOAL - len(goal))
            rows.append([KINDS.index(task.env_name), len(goal), *goal, *padding])
        return np.array(rows)


class _ByKind:
    """ML1, which has one kind of task: that of its name."""

    def __getattr__(self, name: str) -> Split:
        if name not in KINDS:
            raise AttributeError(name)
        return Split("ML1", name)


ML1 = _ByKind()
ML10 = Split("ML10")
ML45 = Split("ML45")
