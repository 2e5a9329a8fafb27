"""Actions of an agent as actions of an environment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.observations import Array


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
            # NumPy's numbers, as Gymnasium's own spaces draw them.
            return list((actions + self._start).astype(self.space.dtype, copy=False))
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
