"""Environments in Gymnasium's `SyncVectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl2_lightning.families.gymnasium.layouts import Array
from rl2_lightning.families.gymnasium.row import Row
from rl2_lightning.families.gymnasium.rows import Layouts, Results, Start, failure, finite, recorded


class IdleEnv(gymnasium.Env[Any, Any]):
    """An environment that can idle, in a vector environment, which steps all of its own.

    An action is a pair: 1 to play or 0 to idle, and the environment's own action. The end of an
    episode is kept here: with autoreset off, a vector environment that has been told of it would
    have to be reset before its next step.

    Args:
        number: index of the row.
        layouts: what is known of the environment.

    Attributes:
        row: the environment and its task.
        observation: its last observation.
        ended: whether its last step has terminated and truncated the episode.
        recorded: the recorded entries of its last step's info.
    """

    def __init__(self, number: int, layouts: Layouts) -> None:
        self.row = Row(layouts.maker)
        self.ended = (False, False)
        self.observation_space = layouts.observations.space
        self.action_space = spaces.Tuple((spaces.Discrete(2), layouts.actions.space))
        self.recorded = [0.0] * len(layouts.recorded)
        self._names = layouts.recorded
        self._number = number
        self._maker = layouts.maker
        self.observation: Any = None
        self._check = layouts.observations.write
        self._scratch = layouts.observations.allocate(1, np.zeros)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, with the new task and seed that `options` may have for the row."""
        start: Start = (options or {})["starts"][self._number]
        try:
            if start is not None:
                task, seed = start
                self.row.set_task(task)
            self.observation = self.row.begin(seed)
        except Exception as error:  # an environment can raise any exception
            raise failure(self._maker, "cannot begin an episode", self.row.task, error) from error
        self._check(self._scratch, 0, self.observation)
        self.ended = (False, False)
        return self.observation, {}

    def step(self, action: tuple[Any, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play a step, or idle."""
        plays, own = action
        if not plays:
            return self.observation, 0.0, False, False, {}
        try:
            self.observation, reward, *ended, info = self.row.env.step(own)
            earned, self.recorded = finite(reward), recorded(info, self._names)
        except Exception as error:  # an environment can raise any exception
            raise failure(self._maker, "cannot play a step", self.row.task, error) from error
        self._check(self._scratch, 0, self.observation)  # before it is batched
        self.ended = (bool(ended[0]), bool(ended[1]))
        return self.observation, earned, False, False, {}

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
        makers = [partial(IdleEnv, number, layouts) for number in range(num_rows)]
        self._envs = SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.DISABLED)
        self._idle_envs = cast(list[IdleEnv], self._envs.envs)

    def begin(self, starts: Mapping[int, Start]) -> None:
        """See `Rows.begin`."""
        begins = np.zeros(self._envs.num_envs, bool)
        begins[list(starts)] = True
        self._envs.reset(options={"reset_mask": begins, "starts": starts})
        self._write(begins)

    def step(self, actions: Array, playing: Array) -> None:
        """See `Rows.step`."""
        own = self._layouts.actions.decoded(actions)
        _, rewards, *_ = self._envs.step((playing.astype(np.int64), np.asarray(own)))
        ended = np.array([env.ended for env in self._idle_envs])
        results = self.results
        results.reward[playing] = rewards[playing]
        results.terminated[playing], results.truncated[playing] = ended[playing].T
        results.recorded[...] = [env.recorded for env in self._idle_envs]
        self._write(playing)

    def close(self) -> None:
        """See `Rows.close`."""
        self._envs.close()

    def _write(self, changed: Array) -> None:
        """Take over the observations of the rows that have changed."""
        numbers = np.flatnonzero(changed)
        shown = [self._idle_envs[number].observation for number in numbers.tolist()]
        self._layouts.observations.write_all(self.results.observations, numbers, shown)
