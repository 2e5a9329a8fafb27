"""Observations and actions of an environment as rows of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl2_lightning.errors import UserError

Array = NDArray[Any]
Arrays = dict[str, Array]
IMAGE_DIMS = 3
LARGEST = float(np.finfo(np.float32).max)


class InvalidObservation(ValueError):  # noqa: N818  its name is told with its message
    """An observation that its space does not contain.

    Args:
        row: the row that it belongs to.
        reason: what is wrong with it.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


@dataclass(frozen=True)
class Part:
    """One of the tensors that an observation consists of.

    Attributes:
        path: where it is in the observation: keys of dictionaries, indices of tuples.
        shape: its shape in the environment.
        dtype: "uint8" for bytes, "int64" for numbers of values, else "float32".
        low: lower bounds, of the shape of the part or `[]`.
        high: upper bounds.
        num_values: for a number of values, how many of each there are; then it is shown one-hot.
        start: the smallest of the values.
        has_channels_last: whether it is an image whose channels come last.
    """

    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    dtype: str
    low: Array
    high: Array
    num_values: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    has_channels_last: bool = False

    def of(self, observation: Any) -> Any:
        """The part of an observation."""
        for key in self.path:
            observation = observation[key]
        return observation

    def shown(self, rows: Array) -> Array:
        """What an agent sees of the rows, `[B, *shape]`: a copy, float32 or uint8."""
        if self.num_values:
            first = np.cumsum([0, *self.num_values[:-1]]) - self.start
            shown = np.zeros((len(rows), sum(self.num_values)), np.float32)
            shown[np.arange(len(rows))[:, None], rows.reshape(len(rows), -1) + first] = 1
            return shown
        if self.has_channels_last:
            return np.ascontiguousarray(np.moveaxis(rows, -1, 1))
        if self.dtype == "uint8" and len(self.shape) == IMAGE_DIMS - 1:
            return rows[:, None].copy()
        return rows.reshape(len(rows), 1).copy() if not self.shape else rows.copy()


class ObservationLayout:
    """How the observations of a space are stored, checked and shown.

    Args:
        space: the space of the environment's observations.
        name: the environment's name in error messages.

    Raises:
        UserError: an agent cannot be shown such observations.

    Attributes:
        space: the space.
        parts: the tensors of an observation by name; the name is empty if there is one alone.
    """

    def __init__(self, space: spaces.Space[Any], name: str) -> None:
        self.space = space
        named = list(_parts_of(space, (), name))
        self.parts: dict[str, Part] = dict(named)
        for part, _ in named:
            if sum(part == other for other, _ in named) > 1:
                raise UserError(
                    f"{name} has two parts of its observations that are called {part} here, where "
                    "keys are joined by underscores: rename one"
                )
        self._alone: Part | None = self.parts.get("")

    def allocate(self, num_rows: int, make: Callable[[tuple[int, ...], str], Array]) -> Arrays:
        """Arrays for the observations of B rows, made by `make(shape, dtype)`."""
        arrays = {
            name: make((num_rows, *part.shape), part.dtype) for name, part in self.parts.items()
        }
        for name, part in self.parts.items():
            if part.num_values:
                arrays[name][:] = part.low  # rows that have not begun are shown, too
        return arrays

    def write(self, arrays: Arrays, row: int, observation: Any) -> None:
        """Store an observation in a row.

        Raises:
            InvalidObservation: it is not of the shape that its space says.
        """
        part = self._alone
        if part is not None and getattr(observation, "shape", None) == part.shape:
            arrays[""][row] = observation
            return
        for name, one in self.parts.items():
            try:
                entry = np.asarray(one.of(observation))
                fits = entry.shape == one.shape
            except (KeyError, IndexError, TypeError, ValueError):
                fits = False
            if not fits:
                shape = list(one.shape)
                raise InvalidObservation(
                    row, f"{name or 'it'} is not of shape {shape}, as the observation_space says"
                )
            arrays[name][row] = entry

    def write_all(self, arrays: Arrays, rows: Array | slice, observations: Sequence[Any]) -> None:
        """Store observations in rows `[N]`, or in all of them; like `write`, but faster."""
        part = self._alone
        if part is not None and {getattr(o, "shape", None) for o in observations} == {part.shape}:
            arrays[""][rows] = np.array(observations)
            return
        numbers = range(len(observations)) if isinstance(rows, slice) else rows.tolist()
        for row, observation in zip(numbers, observations, strict=True):
            self.write(arrays, row, observation)

    def require_within(self, arrays: Arrays, rows: Array) -> None:
        """Check the rows that have changed.

        Args:
            arrays: the observations of all B rows.
            rows: which of them to check, `[B]`, bool.

        Raises:
            InvalidObservation: one is outside of its space, or not finite.
        """
        for name, part in self.parts.items():
            if part.dtype == "uint8":
                continue
            entries = arrays[name]
            within = (entries >= part.low) & (entries <= part.high)
            if within.all():
                continue
            outside = ~within  # which NaN is, too
            outside[~rows] = False
            if outside.any():
                value = entries[outside].flat[0]
                lies = "outside of the observation_space" if np.isfinite(value) else "not finite"
                shown = f"{name} has {value}, which" if name else f"{value}"
                raise InvalidObservation(int(outside.nonzero()[0][0]), f"{shown} is {lies}")

    def shown(self, arrays: Arrays) -> Arrays:
        """What an agent sees of B rows: copies, by name."""
        return {name: part.shown(arrays[name]) for name, part in self.parts.items()}


def _quoted(name: str) -> str:
    return f" {name}" if name else ""


def _parts_of(
    space: spaces.Space[Any], path: tuple[str | int, ...], name: str
) -> Iterator[tuple[str, Part]]:
    inner: Iterable[tuple[str | int, spaces.Space[Any]]] | None = None
    if isinstance(space, spaces.Dict):
        inner = space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        inner = enumerate(space.spaces)
    if inner is not None:
        for key, one in inner:
            yield from _parts_of(one, (*path, key), name)
        return
    # A dot would be taken for nesting.
    full_name = "_".join(str(key).replace(".", "_") for key in path)
    yield full_name, _part_of(space, path, f"{name}{_quoted(full_name)}")


def _part_of(space: spaces.Space[Any], path: tuple[str | int, ...], name: str) -> Part:
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        low, high = np.array(start), np.array(start + int(space.n) - 1)
        return Part(path, (), "int64", low, high, (int(space.n),), (start,))
    if isinstance(space, spaces.MultiDiscrete):
        first, numbers = np.asarray(space.start), np.asarray(space.nvec)
        values = tuple(map(int, numbers.flatten())), tuple(map(int, first.flatten()))
        return Part(path, numbers.shape, "int64", first, first + numbers - 1, *values)
    if isinstance(space, spaces.MultiBinary):
        return Part(path, tuple(space.shape), "float32", np.array(0.0), np.array(1.0))
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"{name} has observations of {type(space).__name__}, which an agent cannot be shown: "
            "use a wrapper, env.wrapper, that turns them into Box, Discrete, Dict or Tuple"
        )
    shape = tuple(space.shape)
    is_bytes = space.dtype == np.uint8 and len(shape) in (IMAGE_DIMS - 1, IMAGE_DIMS)
    low, high = (
        np.clip(bound.astype(np.float32), -LARGEST, LARGEST) for bound in (space.low, space.high)
    )
    return Part(
        path,
        shape,
        "uint8" if is_bytes else "float32",
        low,
        high,
        # The channels are the fewest of the three.
        has_channels_last=len(shape) == IMAGE_DIMS and shape[-1] < min(shape[:-1]),
    )


class ActionLayout:
    """How the actions of an agent become those of an environment.

    Args:
        space: the space of the environment's actions.
        name: the environment's name in error messages.
        bound: largest magnitude of numbers that the space does not bound; None to refuse them.

    Raises:
        UserError: an agent cannot choose such actions.

    Attributes:
        space: the space.
        num_values: for discrete actions, how many values each number has; empty for others.
        low: lower bounds of continuous actions, `[A]`.
        high: upper bounds.
        shape: shape of an agent's action: `()` or `(A,)`.
        dtype: dtype of an agent's action: "int64" or "float32".
    """

    def __init__(self, space: spaces.Space[Any], name: str, bound: float | None) -> None:
        self.space = space
        self.num_values: tuple[int, ...] = ()
        self.low = self.high = np.zeros(0, np.float32)
        self._start: Array = np.zeros(0, np.int64)
        if isinstance(space, spaces.Discrete):
            self.num_values, self._start = (int(space.n),), np.array(int(space.start))
        elif isinstance(space, spaces.MultiDiscrete):
            self.num_values = tuple(map(int, np.asarray(space.nvec).flatten()))
            self._start = np.asarray(space.start).flatten()
        elif isinstance(space, spaces.MultiBinary):
            size = int(np.prod(space.shape))
            self.num_values, self._start = (2,) * size, np.zeros(size, np.int64)
        elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
            self.low, self.high = _finite_bounds(space, name, bound)
        else:
            raise UserError(
                f"{name} has actions of {space}, which an agent cannot choose: use a wrapper, "
                "env.wrapper, that turns them into Discrete, MultiDiscrete or Box of floats"
            )
        self.is_single = isinstance(space, spaces.Discrete)
        self.shape = () if self.is_single else (len(self.num_values) or len(self.low),)
        self.dtype = "int64" if self.num_values else "float32"

    def decoded(self, actions: Array) -> Iterable[Any]:
        """The environment's actions of rows.

        Args:
            actions: an agent's, `[N]` or `[N, A]`.
        """
        if self.is_single:
            values: list[int] = (actions + self._start).tolist()
            return values
        shape = (len(actions), *(self.space.shape or ()))
        if self.num_values:
            return (actions + self._start).reshape(shape).astype(self.space.dtype)
        # Rounding may have left the bounds, which can be of a finer dtype than actions.
        within = np.clip(actions, self.low, self.high).reshape(shape).astype(self.space.dtype)
        assert isinstance(self.space, spaces.Box)
        bounded: Array = np.clip(within, self.space.low, self.space.high)
        return bounded


def _finite_bounds(space: spaces.Box, name: str, bound: float | None) -> tuple[Array, Array]:
    low, high = (np.asarray(end, np.float32).flatten().copy() for end in (space.low, space.high))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        if bound is None:
            raise UserError(
                f"{name} has actions without finite bounds: set env.action_bound to their largest "
                "magnitude"
            )
        low[~np.isfinite(low)], high[~np.isfinite(high)] = -bound, bound
    if (low >= high).any():
        raise UserError(
            f"{name} has actions with a lower bound that is not below the upper one: fix its "
            "action_space or env.action_bound"
        )
    return low, high
