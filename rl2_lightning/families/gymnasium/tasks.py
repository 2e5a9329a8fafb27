"""Tasks as a user writes them, and as a TensorDict holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.maker import named

TASK = "task"  # name of a task that is not a dictionary
LARGEST_SEED = 2**31
RANGE_ENDS = 2


class Source(NamedTuple):
    """Where tasks come from.

    Attributes:
        place: the field of the config that says so.
        draw: draws a number of tasks with a generator.
        tasks: all of them, if their number is finite.
    """

    place: str
    draw: Callable[[int, torch.Generator], list[Any]]
    tasks: Sequence[Any] = ()

    def examples(self, generator: torch.Generator) -> Sequence[Any]:
        """All tasks, or one that is drawn."""
        return self.tasks or self.draw(1, generator)


class TaskLayout:
    """The form of the tasks of an environment: that of the first one.

    Args:
        task: a number, an array, or a dictionary of these.
        name: the environment's name in error messages.
        place: where the task comes from, for error messages.

    Raises:
        UserError: the task is something else.
    """

    def __init__(self, task: Any, name: str, place: str) -> None:
        self._name = name
        self._is_dictionary = isinstance(task, Mapping)
        self._leaves = {
            key: (leaf.shape, leaf.dtype) for key, leaf in self._leaves_of(task, place).items()
        }

    def widen(self, tasks: Sequence[Any], place: str) -> None:
        """Take numbers that are whole in the first task as fractions, where other tasks have these.

        Args:
            tasks: other tasks.
            place: where they come from, for error messages.
        """
        for task in tasks:
            for key, leaf in self._leaves_of(task, place).items():
                if key in self._leaves and leaf.dtype == torch.float32:
                    self._leaves[key] = (self._leaves[key][0], torch.float32)

    def require_form(self, task_by: str) -> None:
        """Check that tasks can be given in a way.

        Args:
            task_by: the way; see `GymnasiumSettings`.

        Raises:
            UserError: seeds that are not whole numbers, or attributes without names.
        """
        is_integer = not self._is_dictionary and self._leaves[TASK] == ((), torch.int64)
        if task_by == "seed" and not is_integer:
            raise UserError(
                f"env.task_by=seed with tasks of {self._name} that are not whole numbers: set "
                "env.task_by to how the environment takes them"
            )
        if task_by == "attributes" and not self._is_dictionary:
            raise UserError(
                f"env.task_by=attributes with tasks of {self._name} without names: give a "
                "dictionary of attributes"
            )

    def pack(self, tasks: Sequence[Any], place: str) -> TensorDict:
        """Tasks as a TensorDict `[N]`, with a number as `[N, 1]`; int64 or float32.

        Args:
            tasks: N tasks.
            place: where they come from, for error messages.

        Raises:
            UserError: a task is of another form than the first one, or not finite.
        """
        columns: dict[str, list[Tensor]] = {key: [] for key in self._leaves}
        for task in tasks:
            leaves = self._leaves_of(task, place)
            if self._form(leaves) != self._leaves or isinstance(task, Mapping) != (
                self._is_dictionary
            ):
                raise UserError(
                    f"{place} gives {self._name} a task of {_described(leaves)}, and others of "
                    f"{self._expected()}: give all tasks the same form"
                )
            for key, (_, dtype) in self._leaves.items():
                columns[key].append(leaves[key].to(dtype))
        stacked = {key: torch.stack(column) for key, column in columns.items()}
        for key, column in stacked.items():
            if not column.isfinite().all():
                raise UserError(f"{place} gives {self._name} a non-finite {key}: fix it")
        entries = {
            key: column.unsqueeze(-1) if column.ndim == 1 else column
            for key, column in stacked.items()
        }
        return TensorDict(entries, [len(tasks)])

    def unpack(self, tasks: TensorDictBase) -> list[Any]:
        """The tasks of `pack`: Python's numbers, NumPy's arrays, or dictionaries of these."""
        columns = {
            key: tasks.get(key).reshape(len(tasks), *shape).cpu().numpy()
            for key, (shape, _) in self._leaves.items()
        }
        rows = []
        for row in range(len(tasks)):
            task = {
                key: column[row].copy() if column.ndim > 1 else column[row].item()
                for key, column in columns.items()
            }
            rows.append(task if self._is_dictionary else task[TASK])
        return rows

    def _leaves_of(self, task: Any, place: str) -> dict[str, Tensor]:
        if task is None or (isinstance(task, Mapping) and not task):
            given = "None" if task is None else "an empty dictionary"
            raise UserError(
                f"{place} returns {given} for {self._name}: return a task: a number, an array, or "
                "a dictionary of these"
            )
        entries = task if isinstance(task, Mapping) else {TASK: task}
        try:
            return {str(key): _tensor(value) for key, value in entries.items()}
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{place} gives {self._name} the task {_short(task)}: give numbers, arrays of "
                "numbers, or a dictionary of these"
            ) from error

    def _form(self, leaves: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """The form of a task; whole numbers count as what the first task has in their place."""
        return {
            key: (leaf.shape, self._leaves.get(key, (None, leaf.dtype))[1])
            if leaf.dtype == torch.int64
            else (leaf.shape, leaf.dtype)
            for key, leaf in leaves.items()
        }

    def _expected(self) -> str:
        return _described({k: torch.empty(s, dtype=d) for k, (s, d) in self._leaves.items()})


def from_ranges(ranges: Any, name: str) -> Source:
    """Draw tasks uniformly.

    Args:
        ranges: a range `[low, high]` of numbers, or of lists of numbers; a whole number n, for one
            of 0 to n - 1; or a dictionary of these.
        name: the environment's name in error messages.

    Raises:
        UserError: it is something else.
    """
    draws = {
        str(key): _one_range(
            one, f"env.tasks.{key}" if isinstance(ranges, Mapping) else "env.tasks"
        )
        for key, one in (ranges if isinstance(ranges, Mapping) else {TASK: ranges}).items()
    }
    if not draws:
        raise UserError(f"env.tasks={{}} has no task for {name}: give ranges, or env.tasks=null")

    def draw(num: int, generator: torch.Generator) -> list[Any]:
        columns = {key: one(num, generator).numpy() for key, one in draws.items()}
        rows = [{key: column[row] for key, column in columns.items()} for row in range(num)]
        return rows if isinstance(ranges, Mapping) else [row[TASK] for row in rows]

    return Source("env.tasks", draw)


def from_sampler(field_text: str) -> Source:
    """Draw tasks with the user's function of a NumPy generator.

    Raises:
        UserError: it cannot be imported or called.
    """
    sampler = named(field_text, "env.sampler")
    if not callable(sampler):
        raise UserError(
            f"env.sampler={field_text} is a {type(sampler).__name__}: name a function that takes a "
            "numpy.random.Generator and returns a task"
        )

    def draw(num: int, generator: torch.Generator) -> list[Any]:
        seed = int(torch.randint(2**62, (), generator=generator))
        numbers = np.random.default_rng(seed)
        try:
            return [sampler(numbers) for _ in range(num)]
        except Exception as error:  # a sampler can raise any exception
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"env.sampler={field_text} failed: {reason}; fix it") from error

    return Source(f"env.sampler={field_text}", draw)


def from_list(given: Any, field_name: str) -> Source:
    """Draw from a finite list, each task equally often, in a random order.

    Args:
        given: the tasks, or `module:name` of a list of them.
        field_name: the field that gives them.

    Raises:
        UserError: there is no task.
    """
    found = named(given, field_name) if isinstance(given, str) else given
    if isinstance(given, str) and callable(found):
        found = found()
    if isinstance(found, (Mapping, str)) or not hasattr(found, "__len__") or not len(found):
        shown = given if isinstance(given, str) else _short(found)
        raise UserError(f"{field_name}={shown} has no tasks: give a list of at least one task")
    tasks = list(found)

    def draw(num: int, generator: torch.Generator) -> list[Any]:
        rounds = -(-num // len(tasks))
        order = torch.cat([torch.randperm(len(tasks), generator=generator) for _ in range(rounds)])
        return [tasks[index] for index in order[:num].tolist()]

    return Source(field_name, draw, tasks)


def from_seeds() -> Source:
    """Draw seeds as tasks."""

    def draw(num: int, generator: torch.Generator) -> list[Any]:
        return torch.randint(LARGEST_SEED, (num,), generator=generator).tolist()

    return Source("env.task_by=seed", draw)


def _one_range(given: Any, said: str) -> Callable[[int, torch.Generator], Tensor]:
    if type(given) is int and given >= 1:
        return lambda num, generator: torch.randint(given, (num,), generator=generator)
    try:
        low, high = (torch.tensor(end, dtype=torch.float32) for end in given)
        is_range = low.shape == high.shape and bool((low <= high).all())
    except (TypeError, ValueError, RuntimeError):
        is_range = False
    if not is_range:
        raise UserError(
            f"{said}={given} is not a range: give [low, high], two lists of numbers of the same "
            "length, the lower ones first, or a whole number of values"
        )

    def draw(num: int, generator: torch.Generator) -> Tensor:
        return low + (high - low) * torch.rand(num, *low.shape, generator=generator)

    return draw


def _tensor(value: Any) -> Tensor:
    """A leaf of a task: whole numbers as int64, others as float32."""
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return torch.from_numpy(array.astype(np.int64))
    if array.dtype.kind != "f":
        raise TypeError(array.dtype)
    return torch.from_numpy(array.astype(np.float32))


def _described(leaves: Mapping[str, Tensor]) -> str:
    def one(leaf: Tensor) -> str:
        kind = "whole numbers" if leaf.dtype == torch.int64 else "numbers"
        return f"{list(leaf.shape)} {kind}" if leaf.ndim else kind[:-1]

    if list(leaves) == [TASK]:
        return one(leaves[TASK])
    return ", ".join(f"{key}: {one(leaf)}" for key, leaf in leaves.items())


def _short(task: Any) -> str:
    text = " ".join(repr(task).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
