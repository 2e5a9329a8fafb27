"""Environments that are played one after the other, whose results are rows of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Protocol

import numpy as np

from rl2_lightning.errors import FailedEnvironmentError, UserError
from rl2_lightning.families.gymnasium.actions import ActionLayout
from rl2_lightning.families.gymnasium.maker import EnvMaker
from rl2_lightning.families.gymnasium.observations import (
    Array,
    Arrays,
    InvalidObservation,
    ObservationLayout,
)
from rl2_lightning.families.gymnasium.row import Row

Start = tuple[Any, int] | None  # a new task and its seed; None to keep the task


@dataclass(frozen=True)
class Layouts:
    """What is known of an environment before it is played.

    Attributes:
        maker: makes the environments.
        observations: how observations are stored.
        actions: how actions are decoded.
        recorded: the entries of a step's info that are recorded.
    """

    maker: EnvMaker
    observations: ObservationLayout
    actions: ActionLayout
    recorded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """What B environments have returned last; a row that idles keeps what it has.

    Attributes:
        observations: `[B, *part]` by part of the observation.
        reward: `[B]`, float32.
        terminated: `[B]`, bool.
        truncated: `[B]`, bool.
        recorded: `[B, R]`, float32: the recorded entries of the info.
    """

    observations: Arrays
    reward: Array
    terminated: Array
    truncated: Array
    recorded: Array

    @classmethod
    def allocate(cls, layouts: Layouts, num_rows: int, make: Any = np.zeros) -> Results:
        """Results of B rows, made by `make(shape, dtype)`."""
        return cls(
            layouts.observations.allocate(num_rows, make),
            make((num_rows,), "float32"),
            make((num_rows,), "bool"),
            make((num_rows,), "bool"),
            make((num_rows, len(layouts.recorded)), "float32"),
        )

    @classmethod
    def of(cls, layouts: Layouts, arrays: Sequence[Array]) -> Results:
        """Results in arrays in the order in which `allocate` makes them."""
        *observations, reward, terminated, truncated, recorded = arrays
        named = dict(zip(layouts.observations.parts, observations, strict=True))
        return cls(named, reward, terminated, truncated, recorded)

    def part(self, rows: slice) -> Results:
        """Some of the rows, sharing their memory."""
        observations = {name: array[rows] for name, array in self.observations.items()}
        rest = (self.reward, self.terminated, self.truncated, self.recorded)
        return Results(observations, *(array[rows] for array in rest))

    def take(self, rows: slice, of_rows: Results) -> None:
        """Take over the results of some of the rows, by a copy."""
        mine = self.part(rows)
        for name, array in of_rows.observations.items():
            mine.observations[name][...] = array
        mine.reward[...], mine.recorded[...] = of_rows.reward, of_rows.recorded
        mine.terminated[...], mine.truncated[...] = of_rows.terminated, of_rows.truncated


class Rows(Protocol):
    """B environments, wherever they are played.

    Attributes:
        results: what they have returned last.
    """

    results: Results

    def begin(self, starts: Mapping[int, Start]) -> None:
        """Start episodes.

        Args:
            starts: the rows in which they start, each with a new task and its seed, or None.

        Raises:
            FailedEnvironmentError: an environment fails, or does not answer in time.
        """

    def step(self, actions: Array, playing: Array) -> None:
        """Step the rows that are playing.

        Args:
            actions: an agent's actions, `[B]` or `[B, A]`.
            playing: `[B]`, bool.

        Raises:
            FailedEnvironmentError: an environment fails, or does not answer in time.
        """

    def close(self) -> None:
        """Close the environments; may be called twice."""


class LocalRows:
    """Environments in this process.

    Args:
        layouts: what is known of the environment.
        results: where their results go.
        current: `[1]`, int64: the row that is being played, for a reader in another process.
    """

    def __init__(self, layouts: Layouts, results: Results, current: Array | None = None) -> None:
        self.results = results
        self._layouts, self._maker = layouts, layouts.maker
        self._rows = [Row(layouts.maker) for _ in range(len(results.reward))]
        self._current = np.zeros(1, np.int64) if current is None else current

    def begin(self, starts: Mapping[int, Start]) -> None:
        """See `Rows.begin`."""
        write, observations = self._layouts.observations.write, self.results.observations
        for number, start in starts.items():
            self._current[0] = number
            row, seed = self._rows[number], None
            try:
                if start is not None:
                    task, seed = start
                    row.set_task(task)
                write(observations, number, row.begin(seed))
            except Exception as error:  # an environment can raise any exception
                raise failure(self._maker, "cannot begin an episode", row.task, error) from error

    def step(self, actions: Array, playing: Array) -> None:
        """See `Rows.step`."""
        numbers = playing.nonzero()[0]
        # Of all rows, a slice takes a fraction of the time of their numbers.
        where = slice(None) if len(numbers) == len(self._rows) else numbers
        decoded = self._layouts.actions.decoded(actions[where])
        rows, current, names = self._rows, self._current, self._layouts.recorded
        steps, told = [], []
        for number, action in zip(numbers.tolist(), decoded, strict=True):
            current[0] = number
            try:
                steps.append(step := rows[number].step(action))
                if names:
                    told.append(recorded(step[-1], names))
            except Exception as error:  # an environment can raise any exception
                raise self._failure(number, error) from error
        results = self.results
        shown, rewards, results.terminated[where], results.truncated[where] = self._split(
            numbers, steps
        )
        try:
            self._layouts.observations.write_all(results.observations, where, shown)
        except InvalidObservation as error:
            raise self._failure(error.row, error) from error
        results.reward[where] = rewards
        if told:
            results.recorded[where] = told

    def _split(
        self, numbers: Array, steps: Sequence[Any]
    ) -> tuple[Sequence[Any], Array, Sequence[bool], Sequence[bool]]:
        """Observations, rewards and ends of the steps of some rows `[N]`.

        Raises:
            FailedEnvironmentError: a step is none, or its reward is no number or not finite.
        """
        if not steps:
            return (), np.zeros(0), (), ()
        try:
            # Of all steps together, which takes a fraction of the time.
            shown, earned, terminated, truncated, _ = zip(*steps, strict=True)
            rewards = np.array(earned, np.float64)
            if rewards.shape == numbers.shape and np.isfinite(rewards).all():
                return shown, rewards, terminated, truncated
        except (TypeError, ValueError):
            pass  # which of them it is is found below
        for number, step in zip(numbers.tolist(), steps, strict=True):
            try:
                _, reward, _, _, _ = step
                finite(reward)
            except Exception as error:  # a reward can raise any exception
                raise self._failure(number, error) from error
        shown, earned, terminated, truncated, _ = zip(*steps, strict=True)
        return shown, np.array([finite(reward) for reward in earned]), terminated, truncated

    def _failure(self, number: int, error: Exception) -> UserError:
        return failure(self._maker, "cannot play a step", self._rows[number].task, error)

    def close(self) -> None:
        """See `Rows.close`."""
        for row in self._rows:
            row.close()


def failure(maker: EnvMaker, what: str, task: Any, error: Exception | None = None) -> UserError:
    """What has happened to an environment, in one line.

    Args:
        maker: the environment's maker.
        what: what has happened.
        task: the task that it was playing.
        error: the environment's own error, if there was one; a mistake of the user's is told as it
            is.
    """
    if isinstance(error, UserError):
        return error
    reason = "" if error is None else f": {' '.join(f'{type(error).__name__}: {error}'.split())}"
    shown = " ".join(f"{task}".split())
    return FailedEnvironmentError(f"{maker.id} {what} in the task {shown[:200]}{reason}")


def finite(value: Any, said: str = "the reward") -> float:
    """A reward, or another entry of a step, as a number.

    Args:
        value: the entry.
        said: what it is, for the error.

    Raises:
        TypeError: it is no number.
        ValueError: it is none, or not finite.
    """
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{said} is {number}")
    return number


def recorded(info: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    """The recorded entries of a step's info.

    Raises:
        LookupError: it lacks one.
        TypeError: one is no number.
        ValueError: one is none, or not finite.
    """
    for name in names:
        if name not in info:
            has = ", ".join(map(str, info)) or "nothing"
            raise LookupError(f"env.recorded has {name}, but the info of a step has {has}")
    return [finite(info[name], f"the info's {name}") for name in names]


def split(num_rows: int, num_parts: int) -> Sequence[slice]:
    """Divide rows into contiguous parts, whose sizes differ by at most 1."""
    ends = [num_rows * part // num_parts for part in range(num_parts + 1)]
    return [slice(*pair) for pair in pairwise(ends)]
