"""Create the environments of a run's trials."""

from collections.abc import Callable
from typing import Any

import torch

from rl2_lightning.config import TrialConfig
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.trial_env import TrialEnv


class World:
    """Creates the environments of a run, and closes them at its end.

    Args:
        make_task_env: builds the family of tasks from `num_tasks` and `device`.
        trial: the settings of a trial.
    """

    def __init__(self, make_task_env: Callable[..., TaskEnv], trial: TrialConfig) -> None:
        self._make_task_env = make_task_env
        self._trial = trial
        self._trials: dict[Any, TrialEnv] = {}
        self._tasks: dict[Any, TaskEnv] = {}

    @property
    def specimen(self) -> TrialEnv:
        """An environment of one trial on the CPU, to read specs and lengths from."""
        return self.trials(1, torch.device("cpu"))

    @property
    def trial_length(self) -> int:
        """The length of a trial, in episodes or in env steps as configured."""
        return self._trial.episodes_per_trial or self._trial.steps_per_trial or 0

    @property
    def steps_per_unit(self) -> int:
        """The maximum number of env steps of an episode; 1 if lengths are env steps."""
        return self.specimen.max_steps // self.trial_length

    @property
    def continues(self) -> bool:
        """Whether trials are cuts of a longer life."""
        return self._trial.continues

    @property
    def has_whole_episodes(self) -> bool:
        """Whether the trials of all players have the same whole episodes."""
        task_env = self.specimen.task_env
        in_episodes = self._trial.episodes_per_trial is not None
        is_whole = self.specimen.max_steps % task_env.max_episode_steps == 0
        return in_episodes or (is_whole and not task_env.ends_early)

    def make_tasks(self, num_tasks: int, device: torch.device | str) -> TaskEnv:
        """A new environment of the family with `num_tasks` tasks."""
        return self._make_task_env(num_tasks=num_tasks, device=device)

    def make_trials(
        self, num_trials: int, device: torch.device, *, length: int | None = None, **options: Any
    ) -> TrialEnv:
        """A new environment of trials.

        Args:
            num_trials: B.
            device: device of the environment.
            length: length of a trial, like `trial_length`; None for the configured one.
            **options: options of `TrialEnv`.
        """
        in_episodes = self._trial.episodes_per_trial is not None
        length = length or self.trial_length
        return TrialEnv(
            self.make_tasks(num_trials, device),
            episodes_per_trial=length if in_episodes else None,
            steps_per_trial=None if in_episodes else length,
            continues=self._trial.continues,
            **options,
        )

    def trials(self, num_trials: int, device: torch.device, **options: Any) -> TrialEnv:
        """Like `make_trials`, but returns the same environment for the same arguments."""
        key = (num_trials, device, *sorted(options.items()))
        if key not in self._trials:
            self._trials[key] = self.make_trials(num_trials, device, **options)
        return self._trials[key]

    def tasks(self, num_tasks: int, device: torch.device | str) -> TaskEnv:
        """Like `make_tasks`, but returns the same environment for the same arguments."""
        key = (num_tasks, str(device))
        if key not in self._tasks:
            self._tasks[key] = self.make_tasks(num_tasks, device)
        return self._tasks[key]

    def close(self) -> None:
        """Close all environments that `trials` and `tasks` have returned."""
        pooled: list[TaskEnv | TrialEnv] = [*self._trials.values(), *self._tasks.values()]
        for env in pooled:
            if not env.is_closed:
                env.close()
        self._trials.clear()
        self._tasks.clear()
