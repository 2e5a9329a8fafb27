"""One environment and its task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.formulas import evaluate
from rl2_lightning.families.gymnasium.maker import EnvMaker

USUAL_NAMES = {"options": "task", "constructor": "task", "method": "set_task"}


class Row:
    """An environment that is given tasks in the way that its maker names.

    Args:
        maker: makes the environment.

    Attributes:
        task: the task that is played.
        step: the environment's own method.
    """

    def __init__(self, maker: EnvMaker) -> None:
        self._maker = maker
        self._name = maker.task_name or USUAL_NAMES.get(maker.task_by, "task")
        self._base: gymnasium.Env[Any, Any] | None = None  # without a wrapper that takes the task
        self._env: gymnasium.Env[Any, Any] | None = None
        self.task: Any = None
        self.step: Callable[[Any], Any] = self._step_unset

    @property
    def env(self) -> gymnasium.Env[Any, Any]:
        """The environment, once a task has been set."""
        assert self._env is not None, "a task has to be set first"
        return self._env

    @property
    def time_limit(self) -> int | None:
        """The time limit that the environment has been wrapped in, in env steps, if any."""
        if not self.env.has_wrapper_attr("_max_episode_steps"):
            return None
        limit = self.env.get_wrapper_attr("_max_episode_steps")
        return limit if isinstance(limit, int) else None

    def set_task(self, task: Any) -> None:
        """Change the task; an episode has to begin next.

        Args:
            task: a number, an array, or a dictionary of these.

        Raises:
            UserError: the environment has no place for it.
        """
        self.task = task
        self._give(task)
        self.step = self.env.step

    def _give(self, task: Any) -> None:
        maker = self._maker
        if maker.makes_for_each_task:
            self.close()
            self._env = maker.make(**(task if isinstance(task, dict) else {self._name: task}))
            return
        if self._env is None:
            self._env = self._base = maker.make()
        if maker.task_by == "wrapper":
            assert self._base is not None
            self._env = maker.wrap(self._base, task)
        elif maker.task_by == "method":
            self._method()(task)
        elif maker.task_by == "attributes":
            for name, value in task.items():
                self._set(name, value)
            for name, formula in maker.derived.items():
                self._set(name, evaluate(formula, self._get))

    def begin(self, seed: int | None) -> Any:
        """Start an episode.

        Args:
            seed: seed of the environment's random numbers; None to go on with those of the last
                episode.

        Returns:
            The first observation.
        """
        by = self._maker.task_by
        if by == "seed":
            seed = self.task
        options = {self._name: self.task} if by == "options" else None
        return self.env.reset(seed=seed, options=options)[0]

    def close(self) -> None:
        """Close the environment."""
        if self._env is not None:
            self._env.close()
            self._env = self._base = None

    def _step_unset(self, action: Any) -> Any:
        raise AssertionError("a task has to be set first")

    def _method(self) -> Any:
        try:
            return self.env.get_wrapper_attr(self._name)
        except AttributeError as error:
            raise UserError(
                f"{self._maker.id} has no method {self._name}: name the method that takes a task "
                "with env.task_name, or set env.task_by"
            ) from error

    def _get(self, name: str) -> Any:
        self._require(name)
        return self.env.get_wrapper_attr(name)

    def _set(self, name: str, value: Any) -> None:
        self._require(name)
        self.env.set_wrapper_attr(name, value)

    def _require(self, name: str) -> None:
        """Only attributes that exist and hold data are set."""
        is_there = not name.startswith("_") and self.env.has_wrapper_attr(name)
        if not is_there or callable(self.env.get_wrapper_attr(name)):
            raise UserError(
                f"{self._maker.id} has no attribute {name} that holds a number: name attributes "
                "of the environment in env.tasks and env.derived"
            )
