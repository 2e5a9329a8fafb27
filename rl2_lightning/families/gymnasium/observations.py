"""Observations of an environment as rows of NumPy arrays."""

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
NUMBERS = "biuf"  # kinds of dtypes: truth values, whole numbers and fractions


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

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Whether it can hold all numbers of a dtype, apart from rounding."""
        if self.dtype == "float32":
            return dtype.kind in NUMBERS
        return dtype == self.dtype

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
            InvalidObservation: a part is not of the shape that its space says, or of numbers that
                its space cannot hold.
        """
        for name, part in self.parts.items():
            said = name or "it"
            try:
                entry = np.asarray(part.of(observation))
                fits = entry.shape == part.shape
            except (KeyError, IndexError, TypeError, ValueError):
                fits = False
            if not fits:
                told = f"{said} is not of shape {list(part.shape)}, as the observation_space says"
                raise InvalidObservation(row, told)
            if entry.dtype.kind not in NUMBERS:
                raise InvalidObservation(row, f"{said} is of dtype {entry.dtype}, not of numbers")
            if not part.takes(entry.dtype):
                _require_whole(row, name, entry, part.dtype)
            arrays[name][row] = entry

    def write_all(self, arrays: Arrays, rows: Array | slice, observations: Sequence[Any]) -> None:
        """Store observations in rows `[N]`, or in all of them; like `write`, but faster."""
        if self._alone is not None:
            try:
                stacked = np.array(observations)
            except ValueError:  # they are not of the same shape
                stacked = np.array(None)
            if stacked.shape[1:] == self._alone.shape and self._alone.takes(stacked.dtype):
                arrays[""][rows] = stacked
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
                told = _outside(name, entries[outside].flat[0])
                raise InvalidObservation(int(outside.nonzero()[0][0]), told)

    def shown(self, arrays: Arrays) -> Arrays:
        """What an agent sees of B rows: copies, by name."""
        return {name: part.shown(arrays[name]) for name, part in self.parts.items()}


def _require_whole(row: int, name: str, entry: Array, dtype: str) -> None:
    """Check that a part `[...]` does not change when it is stored in another dtype.

    Raises:
        InvalidObservation: it does.
    """
    with np.errstate(invalid="ignore"):
        lost = entry != entry.astype(dtype)
    if lost.any():
        raise InvalidObservation(row, _outside(name, entry[lost].flat[0]))


def _outside(name: str, value: Any) -> str:
    """That a part, which may have no name, has a value outside of its space."""
    lies = "outside of the observation_space" if np.isfinite(value) else "not finite"
    return f"{name} has {value}, which is {lies}" if name else f"{value} is {lies}"


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
