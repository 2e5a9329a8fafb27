"""Make the environments that the settings name; plain data that is sent to worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled, UnregisteredEnv

from rl2_lightning.errors import UserError

NO_LIMIT = -1  # Gymnasium's value for no time limit


@dataclass(frozen=True)
class EnvMaker:
    """Makes environments, and knows how tasks are given to them.

    Attributes:
        id: a registered environment, or `module:name` of a class or function that makes one.
        kwargs: arguments of its constructor.
        wrapper: `module:name` of a wrapper, called with the environment; None for none.
        wrappers: others within it, the innermost first: `module:name`, and keyword arguments.
        task_by: how a task is given; see `GymnasiumSettings`.
        task_name: name of the option, method or argument that takes the task; None for the usual
            one.
        derived: formulas of attributes that follow from those of the task, by name.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrapper: str | None = None
    task_by: str = "seed"
    task_name: str | None = None
    derived: Mapping[str, str] = field(default_factory=dict)
    wrappers: Sequence[tuple[str, Mapping[str, Any]]] = ()

    @property
    def makes_for_each_task(self) -> bool:
        """Whether a task needs a new environment."""
        return self.task_by == "constructor"

    def make(self, **more: Any) -> gymnasium.Env[Any, Any]:
        """A new environment, without a time limit and without Gymnasium's own checks.

        Args:
            **more: further arguments of the constructor.

        Raises:
            UserError: it is not registered, cannot be imported, lacks a package, or cannot be made.
        """
        creator = self._creator()
        try:
            env = creator(**{**self.kwargs, **more})
        except (ImportError, DependencyNotInstalled) as error:
            raise UserError(
                f"env.id={self.id} needs a package that is not installed: {_line(error)}; install "
                "it, and see docs/gymnasium.md for the extras"
            ) from error
        except UnregisteredEnv as error:
            raise UserError(_not_registered(self.id, error)) from error
        except Exception as error:  # a constructor can raise any exception
            given = ", ".join([*self.kwargs, *more]) or "no arguments"
            raise UserError(
                f"{self.id} cannot be made with {given}: {_line(error)}; fix env.kwargs or the "
                "environment"
            ) from error
        if not isinstance(env, gymnasium.Env):
            raise UserError(
                f"env.id={self.id} makes a {type(env).__name__}: name what makes a gymnasium.Env"
            )
        for name, options in self.wrappers:
            env = self._wrapped(env, name, "env.wrappers", **options)
        return env if self.wrapper is None or self.task_by == "wrapper" else self.wrap(env)

    def wrap(self, env: gymnasium.Env[Any, Any], *task: Any) -> gymnasium.Env[Any, Any]:
        """The environment in the user's wrapper, which may also take a task.

        Raises:
            UserError: the wrapper cannot be imported, or fails.
        """
        assert self.wrapper is not None
        return self._wrapped(env, self.wrapper, "env.wrapper", *task)

    def _wrapped(
        self, env: gymnasium.Env[Any, Any], name: str, said: str, *task: Any, **options: Any
    ) -> gymnasium.Env[Any, Any]:
        wrapper = named(name, said)
        try:
            wrapped: gymnasium.Env[Any, Any] = wrapper(env, *task, **options)
        except Exception as error:  # a wrapper can raise any exception
            raise UserError(
                f"{said}={name} cannot wrap {self.id}: {_line(error)}; fix the wrapper or its "
                "arguments"
            ) from error
        return wrapped

    def registered_limit(self) -> int | None:
        """The time limit that the environment is registered with, in env steps, if any."""
        spec = self._spec()
        return None if spec is None else spec.max_episode_steps

    def _spec(self) -> gymnasium.envs.registration.EnvSpec | None:
        """The registration; None if `id` names a class or function.

        Raises:
            UserError: there is neither.
        """
        module, _, name = self.id.rpartition(":")
        if module:
            imported = _imported(module, f"env.id={self.id}")
            if _attribute(imported, name) is not None:
                return None
        try:
            # The part in front of the colon has been imported, and has registered the rest.
            return gymnasium.spec(name)
        except UnregisteredEnv as error:
            raise UserError(_not_registered(self.id, error)) from error
        except gymnasium.error.Error as error:
            raise UserError(f"env.id={self.id}: {_line(error)}; name another one") from error

    def _creator(self) -> Any:
        registered = self._spec()
        if registered is None:
            return named(self.id, "env.id")
        spec = copy(registered)
        spec.order_enforce = False

        def create(**kwargs: Any) -> gymnasium.Env[Any, Any]:
            return gymnasium.make(
                spec, max_episode_steps=NO_LIMIT, disable_env_checker=True, **kwargs
            )

        return create


def named(text: str, field_name: str) -> Any:
    """The object that a field of the user's config names as `module:name`.

    Raises:
        UserError: it cannot be imported.
    """
    said = f"{field_name}={text}"
    module, _, name = text.partition(":")
    found = _attribute(_imported(module, said), name) if name else None
    if found is None:
        raise UserError(f"{said} names nothing: name it as module:name")
    return found


def _imported(module: str, said: str) -> Any:
    try:
        return import_module(module)
    except Exception as error:  # an import can raise any exception
        raise UserError(
            f"{said} cannot be imported: {_line(error)}; name it as module:name, with its folder "
            "on PYTHONPATH and its packages installed"
        ) from error


def _attribute(holder: Any, name: str) -> Any:
    for part in name.split("."):
        holder = getattr(holder, part, None)
    return holder


def _not_registered(env_id: str, error: Exception) -> str:
    return (
        f"env.id={env_id} is not registered with Gymnasium: {_line(error)}; check the name, or "
        "name the module that registers it, as in module:Name-v0, or a class, as in module:Class"
    )


def _line(error: BaseException) -> str:
    """An error in one line, without a full stop."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
