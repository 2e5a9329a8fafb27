"""The settings of a Gymnasium environment as a family of tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.maker import EnvMaker
from rl2_lightning.families.gymnasium.tasks import (
    Source,
    from_list,
    from_ranges,
    from_sampler,
    from_seeds,
)
from rl2_lightning.settings import Settings, between, names_code, one_of

WAYS = ("seed", "options", "method", "attributes", "constructor", "wrapper")


@dataclass
class GymnasiumSettings(Settings):
    """Settings of the family.

    What the fields `id`, `kwargs`, `wrapper`, `task_name`, `sampler`, `training_tasks` and
    `held_out_tasks` name is imported and called: they are never read from a checkpoint.

    Attributes:
        id: a registered environment, `module:Name-v0` for one that a module registers, or
            `module:name` of a class or function that makes an environment.
        kwargs: arguments of its constructor.
        wrapper: `module:name` of a wrapper, called with the environment.
        task_by: how a task is given: as the "seed" of each episode; in the "options" of each reset;
            to a "method"; as "attributes"; as arguments of the "constructor" of a new environment;
            or as the second argument of the "wrapper".
        task_name: the option, the method or the argument that takes the task; by default "task", or
            for a method "set_task". A dictionary becomes attributes and arguments by its own names.
        tasks: the distribution of tasks: `[low, high]` for a number, or two lists for an array; a
            whole number n for one of 0 to n - 1; or a dictionary of these.
        derived: attributes that follow from those of the task, as formulas.
        sampler: `module:name` of a function that draws a task from a `numpy.random.Generator`.
        training_tasks: the only tasks to train on: a list, or `module:name` of one.
        held_out_tasks: the only tasks of validation and test.
        recorded: entries of the info of each step, numbers, that an evaluation reports.
        action_bound: largest magnitude of continuous actions that the environment does not bound.
        horizon: length at which an episode is cut, in env steps; None for that of the environment.
    """

    id: str = names_code("CartPole-v1")
    kwargs: dict[str, Any] = names_code({})
    wrapper: str | None = names_code(None)
    task_by: str = one_of(*WAYS, default="seed")
    task_name: str | None = names_code(None)
    tasks: Any = None
    derived: dict[str, str] = field(default_factory=dict)
    sampler: str | None = names_code(None)
    training_tasks: Any = names_code(None)
    held_out_tasks: Any = names_code(None)
    recorded: list[str] = field(default_factory=list)
    action_bound: float | None = between(1e-6, default=None)
    horizon: int | None = between(1, default=None)

    def check(self) -> None:
        """Check that there are tasks, from one place; see `Settings.check`."""
        if self.tasks is not None and self.sampler is not None:
            raise UserError(
                f"env.tasks={self.tasks} and env.sampler={self.sampler}: give one of them, and "
                "null for the other"
            )
        if self.task_by == "wrapper" and self.wrapper is None:
            raise UserError("env.task_by=wrapper without a wrapper: set env.wrapper=module:name")
        if self.derived and self.task_by != "attributes":
            raise UserError(
                f"env.derived with env.task_by={self.task_by}: formulas are of attributes; set "
                "env.task_by=attributes"
            )
        has_distribution = self.tasks is not None or self.sampler is not None
        lists = (self.training_tasks, self.held_out_tasks)
        if self.task_by != "seed" and not has_distribution and None in lists:
            raise UserError(
                f"env.task_by={self.task_by} without tasks for {self.id}: set env.tasks or "
                "env.sampler, or both env.training_tasks and env.held_out_tasks"
            )

    @property
    def maker(self) -> EnvMaker:
        """What makes the environments."""
        return EnvMaker(
            self.id, self.kwargs, self.wrapper, self.task_by, self.task_name, self.derived
        )

    def sources(self) -> tuple[Source, Source]:
        """Where tasks for training come from, and where held-out ones do.

        Raises:
            UserError: a field names something that cannot be used.
        """
        if self.tasks is not None:
            drawn = from_ranges(self.tasks, self.id)
        else:
            drawn = from_seeds() if self.sampler is None else from_sampler(self.sampler)
        training, held_out = self.training_tasks, self.held_out_tasks
        return (
            drawn if training is None else from_list(training, "env.training_tasks"),
            drawn if held_out is None else from_list(held_out, "env.held_out_tasks"),
        )
