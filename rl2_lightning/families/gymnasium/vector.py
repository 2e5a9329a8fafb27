"""Environments in Gymnasium's `SyncVectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.observations import Array, InvalidObservation
from rl2_lightning.families.gymnasium.row import Row
from rl2_lightning.families.gymnasium.rows import Layouts, Results, Start, failure, finite, recorded

NOTHING: dict[str, Any] = {}  # of a step that is told nothing about


class IdleEnv(gymnasium.Env[Any, Any]):
    """An environment that can idle, in a vector environment, which steps all of its own.

    The end of an episode is kept here: with autoreset off, a vector environment that has been told
    of it would have to be reset before its next step.

    Args:
        layouts: what is known of the environment.
        results: of all rows.
        number: index of the row.

    Attributes:
        row: the environment and its task.
        observation: its last observation; any before the first one.
        plays: whether the next step is played.
    """

    def __init__(self, layouts: Layouts, results: Results, number: int) -> None:
        self.row = Row(layouts.maker)
        self.observation_space = layouts.observations.space
        self.action_space = layouts.actions.space
        self.observation: Any = self.observation_space.sample()
        self.plays = False
        self._maker = layouts.maker
        self._names = layouts.recorded
        self._results = results
        self._number = number

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, with the new task and seed that `options` may have for the row."""
        if options is None:
            return self.observation, NOTHING
        start: Start = options["starts"][self._number]
        try:
            if start is not None:
                task, seed = start
                self.row.set_task(task)
            self.observation = self.row.begin(seed)
        except Exception as error:  # an environment can raise any exception
            raise failure(self._maker, "cannot begin an episode", self.row.task, error) from error
        return self.observation, NOTHING

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play a step, or idle."""
        if not self.plays:
            return self.observation, 0.0, False, False, NOTHING
        self.plays = False
        results, number = self._results, self._number
        try:
            self.observation, reward, terminated, truncated, info = self.row.step(action)
            results.reward[number] = finite(reward)
            if self._names:
                results.recorded[number] = recorded(info, self._names)
        except Exception as error:  # an environment can raise any exception
            raise failure(self._maker, "cannot play a step", self.row.task, error) from error
        results.terminated[number], results.truncated[number] = terminated, truncated
        return self.observation, 0.0, False, False, NOTHING

    def close(self) -> None:
        """Close the environment."""
        self.row.close()


class VectorRows:
    """Environments in a `SyncVectorEnv` with autoreset off, in this process.

    Args:
        layouts: what is known of the environment.
        num_rows: B.
    """

    def __init__(self, layouts: Layouts, num_rows: int) -> None:
        self._layouts = layouts
        self.results = Results.allocate(layouts, num_rows)
        makers = [partial(IdleEnv, layouts, self.results, number) for number in range(num_rows)]
        self._envs = SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.DISABLED)
        self._idle_envs = cast(list[IdleEnv], self._envs.envs)
        self._envs.reset()  # which shows any observation, so that some rows can begin before others

    def begin(self, starts: Mapping[int, Start]) -> None:
        """See `Rows.begin`."""
        begins = np.zeros(self._envs.num_envs, bool)
        begins[list(starts)] = True
        options = {"reset_mask": begins, "starts": starts}
        self._play(partial(self._envs.reset, options=options), begins, "cannot begin an episode")

    def step(self, actions: Array, playing: Array) -> None:
        """See `Rows.step`."""
        for env, plays in zip(self._idle_envs, playing.tolist(), strict=True):
            env.plays = plays
        own = self._layouts.actions.decoded(actions)
        self._play(partial(self._envs.step, own), playing, "cannot play a step")

    def close(self) -> None:
        """See `Rows.close`."""
        self._envs.close()

    def _play(self, call: Any, changed: Array, what: str) -> None:
        """Call the vector environment, and take over the observations of rows that have changed."""
        numbers = np.flatnonzero(changed)
        try:
            shown = call()[0]
        except UserError:
            raise
        except Exception:
            if any(env.plays for env in self._idle_envs):
                raise
            # All have played. Gymnasium cannot join their observations, though each may be valid.
            self._write_each(numbers, what)
            return
        for name, part in self._layouts.observations.parts.items():
            self.results.observations[name][numbers] = part.of(shown)[numbers]

    def _write_each(self, numbers: Array, what: str) -> None:
        layout, observations = self._layouts.observations, self.results.observations
        for number in numbers.tolist():
            env = self._idle_envs[number]
            try:
                layout.write(observations, number, env.observation)
            except InvalidObservation as error:
                raise failure(self._layouts.maker, what, env.row.task, error) from error
