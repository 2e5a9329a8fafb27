"""Trials: several episodes of one task as a single trajectory."""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.utils._pytree import tree_map
from torchrl.envs import EnvBase

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.task_env import TaskEnv, reset_rows
from rl2_lightning.families.trial_specs import placeholder_of, trial_specs
from rl2_lightning.families.trial_step import StepResult, TrialStep
from rl2_lightning.inputs import (
    Inputs,
    Observation,
    first_inputs,
    next_inputs,
    no_action,
    select_rows,
)


@dataclass
class _State:
    """Where the trials are.

    Attributes:
        steps: the env steps of each, `[B, 1]`, int64.
        current: their next step; None before they begin.
    """

    steps: Tensor
    current: TrialStep | None = None


class TrialEnv(EnvBase):
    """Plays trials, at whose start, and only there, the memory is empty.

    A trial is a fixed number of episodes, or of env steps, of each task. `done` is the end of the
    trial; the end of an episode is an input of the agent (`previous_done`) and the entry
    `episode_done`. A row whose trial has ended idles, with `mask` false and no reward, until it is
    reset: starting new trials in rows that finish early would favour short trials.

    It can be played in two ways with the same results: by `begin` and `advance` on plain tensors,
    and as a TorchRL environment.

    Args:
        task_env: the tasks to play.
        episodes_per_trial: length of a trial in episodes; or None.
        steps_per_trial: length of a trial in env steps; or None.
        continues: whether a trial is a cut of a longer life, so that its end does not terminate and
            the value is bootstrapped there.
        expected_rewards: whether `(next, reward)`, from which agents learn, is the mean reward
            given the task, if the family provides it; `previous_reward`, which they see, is always
            the drawn one.
        shows_position: whether to record the agent's position, for pictures; for families played in
            the plane.

    Raises:
        UserError: not exactly one of the two lengths is given, or it is not positive.

    Attributes:
        max_steps: T, maximum number of env steps of a trial.
        max_episodes: E, maximum number of episodes of a trial.
    """

    def __init__(
        self,
        task_env: TaskEnv,
        *,
        episodes_per_trial: int | None = None,
        steps_per_trial: int | None = None,
        continues: bool = False,
        expected_rewards: bool = False,
        shows_position: bool = False,
    ) -> None:
        if (episodes_per_trial is None) == (steps_per_trial is None):
            raise UserError(
                f"episodes_per_trial={episodes_per_trial} and steps_per_trial={steps_per_trial}: "
                "give exactly one of them, and null for the other"
            )
        super().__init__(device=task_env.device, batch_size=task_env.batch_size)
        length = episodes_per_trial or steps_per_trial or 0
        if length < 1:
            raise UserError(f"a trial of length {length}: it needs at least 1 episode or step")
        self.task_env = task_env
        self.episodes_per_trial = episodes_per_trial
        self.continues = continues
        self.expected_rewards = expected_rewards
        self.shows_position = shows_position
        self.max_steps = steps_per_trial or length * task_env.max_episode_steps
        whole = -(-self.max_steps // task_env.max_episode_steps)
        self.max_episodes = length if episodes_per_trial or task_env.ends_early else whole
        specs = trial_specs(task_env, shows_position=shows_position)
        self.observation_spec, self.action_spec, self.reward_spec, self.done_spec = specs
        self.to(self.device)
        self._zero = torch.zeros(*self.batch_size, 1, device=self.device)
        steps = torch.zeros(*self.batch_size, 1, dtype=torch.int64, device=self.device)
        # Setting an attribute of a module takes as long as a tensor operation.
        self._state = _State(steps)
        placeholder = placeholder_of(self.action_spec_unbatched)
        self._no_action = no_action(len(self._zero), placeholder, self.device)

    @property
    def tasks(self) -> TensorDictBase:
        """The parameters of the tasks that are played, `[B]`; not shown to the agent."""
        return self.task_env.tasks

    @property
    def is_closed(self) -> bool:
        """Whether the task environment is closed."""
        return bool(self.task_env.is_closed)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the task environment."""
        self.task_env.close(raise_if_closed=raise_if_closed)

    @property
    def elapsed(self) -> Tensor:
        """The elapsed fraction of each trial, `[B, 1]`, float32; 1 at its end."""
        steps, current = self._state.steps, self._state.current
        assert current is not None, "no trial has begun yet"
        if self.continues:
            # A longer life has no known end.
            return self._zero
        if self.episodes_per_trial is None:
            elapsed = steps / self.max_steps
        else:
            within = self.task_env.episode_steps / self.task_env.max_episode_steps
            elapsed = (current.episode + within) / self.episodes_per_trial
        return elapsed.masked_fill(~current.playing, 1.0)

    def begin(self, tasks: TensorDictBase | None = None, rows: Tensor | None = None) -> TrialStep:
        """Start trials.

        Args:
            tasks: parameters of their tasks, `[B]`; None to draw tasks to train on.
            rows: where new trials begin, `[B, 1]`, bool; None for everywhere.
        """
        everywhere = torch.ones_like(self._zero, dtype=torch.bool)
        where = everywhere if rows is None else rows
        if tasks is None:
            tasks = self.task_env.sample_training_tasks(self.task_env.num_tasks)
        self.task_env.set_tasks(tasks, where)
        observation = self.task_env.start_episodes(where)
        state = self._state
        state.steps = state.steps.masked_fill(where, 0)
        started = TrialStep(
            first_inputs(observation, self._no_action),
            torch.zeros_like(state.steps),
            everywhere,
        )
        if rows is not None and state.current is not None:
            started = _select(rows, started, state.current)
        state.current = started
        return started

    def advance(self, action: Tensor) -> StepResult:
        """Play one step of every trial that has not ended.

        Args:
            action: `[B]`, int64, or `[B, A]`, int64 or float32.
        """
        state = self._state
        assert state.current is not None, "a trial has to begin before it is played"
        inputs, episode, playing = state.current
        expected = self.task_env.expected_reward(action) if self.expected_rewards else None
        transition = self.task_env.play(action, playing)
        # Before the next episode begins.
        info = self.task_env.info
        position = self.task_env.position if self.shows_position else None
        episode_done = transition.episode_done & playing
        reward = torch.where(playing, transition.reward, 0.0)
        state.steps = state.steps + playing
        finished = ~playing | self._out_of_budget(episode + episode_done, episode_done)
        # If the trial is a cut of a longer life, the value beyond the cut is that of a new episode.
        begins = episode_done if self.continues else episode_done & ~finished
        started = self.task_env.start_episodes(begins)
        episode = episode + begins
        state.current = TrialStep(
            # Where no episode begins, `started` is the observation after the step.
            next_inputs(inputs, action, started, reward, episode_done),
            episode,
            ~finished,
        )
        return StepResult(
            state.current,
            reward if expected is None else torch.where(playing, expected, 0.0),
            episode_done,
            finished,
            transition.observation,
            position,
            info,
        )

    def _reset(
        self,
        tensordict: TensorDictBase | None = None,
        *,
        tasks: TensorDictBase | None = None,
        **_: Any,
    ) -> TensorDict:
        if tasks is None and tensordict is not None:
            tasks = tensordict.get(keys.TASK, None)
        rows = reset_rows(self, tensordict)
        was_begun = self._state.current is not None
        step = self.begin(tasks, rows)
        is_init = rows if was_begun else torch.ones_like(rows)
        ended = (step.inputs.previous_done > 0) & ~is_init & (self._state.steps > 0)
        return self._pack(step, is_init=is_init, ended=ended)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        result = self.advance(tensordict.get(keys.ACTION))
        answer = self._pack(
            result.following, is_init=torch.zeros_like(result.done), ended=result.episode_done
        )
        if result.position is not None:
            answer.set(keys.POSITION, result.position)
        return answer.set(keys.STEP_REWARD, result.reward)

    def _pack(self, step: TrialStep, *, is_init: Tensor, ended: Tensor) -> TensorDict:
        """A step as a TensorDict for TorchRL."""
        finished = ~step.playing
        terminated = torch.zeros_like(finished) if self.continues else finished
        entries = {
            **input_entries(step.inputs),
            keys.EPISODE: step.episode,
            keys.ELAPSED: self.elapsed,
            keys.IS_INIT: is_init,
            keys.MASK: step.playing,
            keys.EPISODE_ENDED: ended,
            keys.TRIAL_DONE: finished,
            keys.TRIAL_TERMINATED: terminated,
        }
        if self.shows_position:
            entries[keys.POSITION] = self.task_env.position
        return TensorDict(entries, batch_size=self.batch_size, device=self.device)

    def _out_of_budget(self, episodes_played: Tensor, episode_done: Tensor) -> Tensor:
        if self.episodes_per_trial is None:
            return self._state.steps >= self.max_steps
        return episode_done & (episodes_played >= self.episodes_per_trial)

    def _set_seed(self, seed: int | None) -> None:
        self.task_env.set_seed(seed)


def input_entries(inputs: Inputs) -> dict[str, Observation]:
    """The inputs as entries of a TensorDict, by the names of `keys`."""
    return {
        keys.OBSERVATION: inputs.observation,
        keys.PREVIOUS_ACTION: inputs.previous_action,
        keys.PREVIOUS_REWARD: inputs.previous_reward,
        keys.PREVIOUS_DONE: inputs.previous_done,
        keys.PREVIOUS_OBSERVATION: inputs.previous_observation,
    }


def _select(rows: Tensor, new: TrialStep, old: TrialStep) -> TrialStep:
    """Take the new step in the given rows `[B, 1]`, and the old one elsewhere."""
    selected: TrialStep = tree_map(lambda one, other: select_rows(rows, one, other), new, old)
    return selected
