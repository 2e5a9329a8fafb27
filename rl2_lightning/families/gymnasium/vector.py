"""Environments in Gymnasium's `SyncVectorEnv`."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.observations import Array, InvalidObservation
from rl2_lightning.families.gymnasium.row import Row
from rl2_lightning.families.gymnasium.rows import (
    Layouts,
    LocalRows,
    Results,
    failure,
    finite,
    recorded,
)

NOTHING: dict[str, Any] = {}  # what a vector environment is told of a step


class IdleEnv(gymnasium.Env[Any, Any]):
    """An environment that can idle, in a vector environment, which steps all of its own.

    The end of an episode is kept here: with autoreset off, a vector environment that has been told
    of it would have to be reset before its next step, all environments with the same options.

    Args:
        layouts: what is known of the environment.
        results: of all rows.
        number: index of the row.
        row: the environment and its task, whose episodes begin elsewhere.

    Attributes:
        observation: what the vector environment is shown; while the row idles, any.
        plays: whether the next step is played.
    """

    def __init__(self, layouts: Layouts, results: Results, number: int, row: Row) -> None:
        self.observation_space = layouts.observations.space
        self.action_space = layouts.actions.space
        self.observation: Any = self.observation_space.sample()
        self.plays = False
        self._maker = layouts.maker
        self._names = layouts.recorded
        self._results = results
        self._number = number
        self._row = row

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play a step, or idle."""
        if not self.plays:
            return self.observation, 0.0, False, False, NOTHING
        self.plays = False
        results, number = self._results, self._number
        try:
            self.observation, reward, terminated, truncated, info = self._row.step(action)
            results.reward[number] = finite(reward)
            if self._names:
                results.recorded[number] = recorded(info, self._names)
        except Exception as error:  # an environment can raise any exception
            raise failure(self._maker, "cannot play a step", self._row.task, error) from error
        results.terminated[number], results.truncated[number] = terminated, truncated
        return self.observation, 0.0, False, False, NOTHING


class VectorRows(LocalRows):
    """Environments in a `SyncVectorEnv` with autoreset off, in this process.

    Args:
        layouts: what is known of the environment.
        num_rows: B.
    """

    def __init__(self, layouts: Layouts, num_rows: int) -> None:
        super().__init__(layouts, Results.allocate(layouts, num_rows))
        self._idle_envs = [
            IdleEnv(layouts, self.results, number, row) for number, row in enumerate(self._rows)
        ]
        makers = [partial(_given, env) for env in self._idle_envs]
        self._envs = SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.DISABLED)

    def step(self, actions: Array, playing: Array) -> None:
        """See `Rows.step`."""
        for env, plays in zip(self._idle_envs, playing.tolist(), strict=True):
            env.plays = plays
        numbers = np.flatnonzero(playing)
        try:
            shown = self._envs.step(self._layouts.actions.decoded(actions))[0]
        except UserError:
            raise
        except Exception:
            if any(env.plays for env in self._idle_envs):
                raise
            # All have played. Gymnasium cannot join their observations, though each may be valid.
            self._write_each(numbers)
            return
        for name, part in self._layouts.observations.parts.items():
            self.results.observations[name][numbers] = part.of(shown)[numbers]

    def _write_each(self, numbers: Array) -> None:
        layout, observations = self._layouts.observations, self.results.observations
        for number in numbers.tolist():
            try:
                layout.write(observations, number, self._idle_envs[number].observation)
            except InvalidObservation as error:
                raise self._failure(number, error) from error


def _given(env: IdleEnv) -> IdleEnv:
    return env
