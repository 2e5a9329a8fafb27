"""Preallocated storage for the steps of trials."""

from collections.abc import Collection, Mapping, Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.utils._pytree import tree_map, tree_map_

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.families.trial_step import StepResult, TrialStep
from rl2_lightning.inputs import Observation, select_rows

Name = str | tuple[str, ...]  # name of an entry of a TensorDict


class Record:
    """The steps of B trials, `[T, B, ...]` in memory.

    Entries that a step shows of the previous one are not stored twice, but read one row earlier.

    Args:
        env: the environment that is played.
        first: the first step of the trials.
        num_steps: T.
        kept: the entries to store; None for all and the last observations of episodes.
    """

    def __init__(
        self, env: TrialEnv, first: TrialStep, num_steps: int, kept: Collection[Name] | None
    ) -> None:
        self._env = env
        self._num_steps = num_steps
        self._kept = kept
        self._before: dict[Name, Observation] = {
            keys.OBSERVATION: first.inputs.previous_observation,
            keys.ACTION: first.inputs.previous_action,
            keys.DRAWN_REWARD: first.inputs.previous_reward,
            keys.EPISODE_DONE: first.inputs.previous_done > 0,
        }
        self._buffers: dict[Name, Observation] = {}
        self._rows: dict[Name, Sequence[Tensor]] = {}  # of the buffers that are tensors
        self._last: Observation | None = None
        self._trials = torch.arange(env.batch_size.numel(), device=env.device)

    def add_step(self, index: int, step: TrialStep) -> None:
        """Store the state of the trials before a step.

        Args:
            index: index of the step, from 0.
            step: the trials before it.
        """
        self._add(index, keys.OBSERVATION, step.inputs.observation)
        self._add(index, keys.EPISODE, step.episode)
        self._add(index, keys.MASK, step.playing)
        if self._kept is None:
            self._add(index, keys.ELAPSED, self._env.elapsed)

    def add_result(
        self, index: int, step: TrialStep, acted: Mapping[Name, Tensor], result: StepResult
    ) -> None:
        """Store the result of a step.

        Args:
            index: index of the step, from 0.
            step: the trials before it.
            acted: the action, and other entries that the actor stores.
            result: result of the action.
        """
        for name, entry in acted.items():
            self._add(index, name, entry)
        self._add(index, keys.DRAWN_REWARD, result.following.inputs.previous_reward)
        if self._stores_reward:
            self._add(index, keys.REWARD, result.reward)
        self._add(index, keys.EPISODE_DONE, result.episode_done)
        self._add(index, keys.DONE, result.done)
        if result.position is not None:
            self._add(index, keys.REACHED, result.position)
        for name, told in result.info.items():
            self._add(index, keys.of_info(name), told)
        if self._kept is None:
            self._keep_last_observation(index, step, result)

    def trials(self, states: Sequence[tuple[Tensor, ...]]) -> TensorDict:
        """The stored trials, `[B]`.

        Args:
            states: the stored states of the actor's memory.
        """
        batch_size = self._env.batch_size
        steps = TensorDict(batch_size=[*batch_size, self._num_steps], device=self._env.device)
        for name, buffer in self._buffers.items():
            shown = name
            if name == keys.DRAWN_REWARD:
                if self._stores_reward:
                    continue
                shown = keys.REWARD
            steps.set(shown, self._by_trial(buffer, name in self._before))
        entries = {keys.STEPS: steps, keys.TASK: self._env.tasks}
        if self._kept is None:
            self._add_derived(steps)
            entries[keys.LAST_OBSERVATION] = tree_map(lambda e: e.transpose(0, 1), self._last)
            tensors = {
                # A single one is not copied: it may be in memory once for all trials.
                str(number): torch.stack(kept, 1) if len(kept) > 1 else kept[0].unsqueeze(1)
                for number, kept in enumerate(zip(*states, strict=True))
            }
            entries[keys.MEMORY_STATE] = TensorDict(tensors, [*batch_size, len(states)])
        return TensorDict(entries, batch_size=batch_size, device=self._env.device)

    @property
    def _stores_reward(self) -> bool:
        """Whether the reward has to be stored beside the drawn one, which the next step shows."""
        return self._kept is not None or self._env.expected_rewards

    def _add(self, index: int, name: Name, entry: Observation) -> None:
        if self._kept is not None and name not in self._kept:
            return
        before = self._before.get(name)
        if index == 0:
            length = self._num_steps + (before is not None)
            self._buffers[name] = tree_map(lambda e: e.new_empty(length, *e.shape), entry)
            if before is not None:
                tree_map_(lambda e, b: b[0].copy_(e), before, self._buffers[name])
            buffer = self._buffers[name]
            if isinstance(buffer, Tensor):
                self._rows[name] = buffer.unbind(0)
        row = index + (before is not None)
        if isinstance(entry, Tensor):
            self._rows[name][row].copy_(entry)
        else:
            tree_map_(lambda e, b: b[row].copy_(e), entry, self._buffers[name])

    def _add_derived(self, steps: TensorDict) -> None:
        """Add the entries that are derived from previous steps and from the ends of trials."""
        previous: dict[str, Name] = {
            keys.PREVIOUS_OBSERVATION: keys.OBSERVATION,
            keys.PREVIOUS_ACTION: keys.ACTION,
            keys.PREVIOUS_REWARD: keys.DRAWN_REWARD,
            keys.PREVIOUS_DONE: keys.EPISODE_DONE,
        }
        for name, stored in previous.items():
            steps.set(name, self._by_trial(tree_map(lambda e: e[:-1], self._buffers[stored])))
        steps.set(keys.PREVIOUS_DONE, steps.get(keys.PREVIOUS_DONE).float())
        done = steps.get(keys.DONE)
        steps.set(keys.TERMINATED, torch.zeros_like(done) if self._env.continues else done)
        is_init = torch.zeros_like(done)
        is_init[:, 0] = True
        steps.set(keys.IS_INIT, is_init)

    def _by_trial(self, buffer: Observation, is_shifted: bool = False) -> Observation:
        """Transpose `[T, B, ...]` to `[B, T, ...]`, without a copy."""
        by_trial: Observation = tree_map(lambda e: e[int(is_shifted) :].transpose(0, 1), buffer)
        return by_trial

    def _keep_last_observation(self, index: int, step: TrialStep, result: StepResult) -> None:
        """Store the last observations of episodes that end, `[E, B, *observation]`."""
        env = self._env
        if self._last is None:
            self._last = tree_map(
                lambda e: e.new_zeros(env.max_episodes, *e.shape), result.last_observation
            )
        if index >= env.max_steps:
            return  # only played for its value
        if not env.task_env.ends_early:
            # All trials are at the same step of the same episode.
            episode, left = divmod(index + 1, env.task_env.max_episode_steps)
            if left and index + 1 < env.max_steps:
                return
            at = min(episode - (left == 0), env.max_episodes - 1)
            tree_map_(lambda e, last: last[at].copy_(e), result.last_observation, self._last)
            return
        ended = result.episode_done | (result.done & step.playing)
        # After the cut of a longer life, idle trials are in an episode beyond the last one.
        place = (step.episode.squeeze(1).clamp(max=env.max_episodes - 1), self._trials)

        def put(entry: Tensor, last: Tensor) -> None:
            last[place] = select_rows(ended, entry, last[place])

        tree_map_(put, result.last_observation, self._last)


def require_whole_episodes(steps: TensorDictBase, env: TrialEnv) -> None:
    """Check `ends_early`: if it is wrongly false, the stored last observations are wrong.

    Args:
        steps: `[B, T]`, with the ends of episodes.
        env: the environment of the trials.

    Raises:
        UserError: an episode ended early in a family with `ends_early = False`.
    """
    task_env = env.task_env
    if task_env.ends_early or task_env.max_episode_steps == 1:  # where each step is due to end one
        return
    ends = steps.get(keys.EPISODE_DONE)[:, : env.max_steps]
    numbers = torch.arange(1, ends.shape[1] + 1, device=ends.device)
    is_due = (numbers % task_env.max_episode_steps == 0).unsqueeze(1)
    if (ends & ~is_due).any():
        raise UserError(
            f"{type(task_env).__name__} has ended an episode before its "
            f"{task_env.max_episode_steps} steps: set ends_early = True in the class"
        )
