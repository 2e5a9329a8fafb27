"""An agent's spaces of observations and actions, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rl2_lightning.errors import UserError

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.uint8)}


@dataclass(frozen=True)
class Box:
    """An array of numbers.

    Attributes:
        shape: shape without the batch.
        dtype: "float32", or "uint8" for images.
        low: lower bound of each number; None without finite bounds.
        high: upper bound of each number; None without finite bounds.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def centre(self) -> tuple[float, ...]:
        """The middle of each number's bounds, which have to be finite."""
        return tuple((high + low) / 2 for low, high in self._bounds())

    @property
    def half_width(self) -> tuple[float, ...]:
        """Half the distance of each number's bounds, which have to be finite."""
        return tuple((high - low) / 2 for low, high in self._bounds())

    def _bounds(self) -> list[tuple[float, float]]:
        if self.low is None or self.high is None:
            raise UserError(
                f"actions of shape {list(self.shape)} without finite bounds are not supported: "
                "give their spec finite bounds"
            )
        return list(zip(self.low, self.high, strict=True))


@dataclass(frozen=True)
class Discrete:
    """One of n values, int64.

    Attributes:
        n: number of values.
    """

    n: int

    @property
    def size(self) -> int:
        """The number of values."""
        return self.n


@dataclass(frozen=True)
class MultiDiscrete:
    """Several numbers at once, int64, each one of a number of values of its own.

    Attributes:
        nvec: number of values of each of them.
    """

    nvec: tuple[int, ...]

    @property
    def size(self) -> int:
        """The sum of the numbers of values."""
        return sum(self.nvec)


Observations = Box | dict[str, Box]  # a dictionary for several observations
Actions = Box | Discrete | MultiDiscrete


def placeholder_of(actions: Actions) -> int | tuple[int, ...] | tuple[float, ...]:
    """What stands for the previous action where there was none; see `inputs.no_action`."""
    if isinstance(actions, Discrete):
        return actions.n
    return actions.nvec if isinstance(actions, MultiDiscrete) else actions.centre


def to_plain(space: Observations | Actions) -> dict[str, Any]:
    """A space as numbers, strings, lists and dictionaries."""
    if isinstance(space, Discrete):
        return {"n": space.n}
    if isinstance(space, MultiDiscrete):
        return {"nvec": list(space.nvec)}
    if isinstance(space, dict):
        return {"spaces": {name: to_plain(one) for name, one in space.items()}}
    bounds = {"low": space.low, "high": space.high}
    given = {name: list(bound) for name, bound in bounds.items() if bound is not None}
    return {"shape": list(space.shape), "dtype": space.dtype, **given}


def observations_from_plain(data: Any) -> Observations:
    """Read a space of observations from the output of `to_plain`.

    Raises:
        UserError: it is something else.
    """
    if isinstance(data, Mapping) and isinstance(data.get("spaces"), Mapping):
        return {str(name): _box(one) for name, one in data["spaces"].items()}
    return _box(data)


def actions_from_plain(data: Any) -> Actions:
    """Read a space of actions from the output of `to_plain`.

    Raises:
        UserError: it is something else.
    """
    if isinstance(data, Mapping) and set(data) == {"n"}:
        if type(data["n"]) is int and data["n"] >= 1:
            return Discrete(data["n"])
        raise UserError(f"{data['n']!r} actions: a checkpoint has to name their number")
    if isinstance(data, Mapping) and set(data) == {"nvec"}:
        nvec = data["nvec"]
        if isinstance(nvec, list) and nvec and all(type(n) is int and n >= 1 for n in nvec):
            return MultiDiscrete(tuple(nvec))
        raise UserError(f"{nvec!r} actions: a checkpoint has to name their numbers")
    return _box(data)


def _box(data: Any) -> Box:
    fields = dict(data) if isinstance(data, Mapping) else {}
    shape, dtype = fields.pop("shape", None), fields.pop("dtype", None)
    bounds = {name: fields.pop(name, None) for name in ("low", "high")}
    are_sizes = isinstance(shape, list) and all(type(n) is int and n >= 1 for n in shape)
    are_numbers = all(
        bound is None or (isinstance(bound, list) and all(_is_finite(x) for x in bound))
        for bound in bounds.values()
    )
    if fields or not are_sizes or not are_numbers or str(dtype) not in DTYPES:
        raise UserError(f"{data!r} is not a space of observations or actions")
    low, high = (None if bound is None else tuple(bound) for bound in bounds.values())
    return Box(tuple(shape), dtype, low, high)


def _is_finite(number: Any) -> bool:
    return isinstance(number, float | int) and math.isfinite(number)
