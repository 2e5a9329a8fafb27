"""Trials out of episodes: several episodes of one task as a single trajectory."""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from rl2_lightning import keys
from rl2_lightning.envs.task_env import TaskEnv, reset_rows
from rl2_lightning.errors import UserError


class TrialEnv(EnvBase):
    """Plays trials: memory starts empty at a trial's start, and only there.

    A trial is a fixed number of episodes, or of env steps, of each task. `done` is the end of
    the trial; the end of an episode is shown to the agent as an input (`previous_done`) and in
    `episode_done`. A row whose trial has ended idles, with `mask` false and no reward, until all
    rows are reset: to start new trials in rows that finish early would favour short trials.

    Args:
        task_env: the tasks to play.
        episodes_per_trial: length of a trial in episodes; or None.
        steps_per_trial: length of a trial in env steps; or None.
        continues: the trial is a cut of a longer life; its end does not terminate, so that value
            is bootstrapped there.
        expected_rewards: `(next, reward)`, from which agents learn, is the mean of the reward
            given the task, if the family tells it; `previous_reward`, which they see, stays the
            one that was drawn.
        shows_previous_observation: the observation in which the previous action was taken is shown
            again, beside what that action has led to.
        shows_position: the agent's place on the map is written, for pictures; of families that are
            played in the plane.

    Raises:
        UserError: not exactly one of the two lengths is given, or it is not positive.
    """

    def __init__(
        self,
        task_env: TaskEnv,
        *,
        episodes_per_trial: int | None = None,
        steps_per_trial: int | None = None,
        continues: bool = False,
        expected_rewards: bool = False,
        shows_previous_observation: bool = False,
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
        self.shows_previous_observation = shows_previous_observation
        self.shows_position = shows_position
        self.max_steps = steps_per_trial or length * task_env.max_episode_steps
        whole = -(-self.max_steps // task_env.max_episode_steps)
        self.max_episodes = length if episodes_per_trial or task_env.ends_early else whole
        action_spec = task_env.action_spec_unbatched
        self._num_actions = action_spec.space.n if isinstance(action_spec, Categorical) else None
        self._action_size = self._num_actions or action_spec.shape[-1]
        self._one_hot = torch.eye(self._action_size, device=self.device)
        self._make_specs()
        self._zero = torch.zeros(*self.batch_size, 1, device=self.device)
        self._steps = torch.zeros(*self.batch_size, 1, dtype=torch.int64, device=self.device)
        self._current: TensorDict | None = None

    @property
    def tasks(self) -> TensorDictBase:
        """The parameters of the tasks that are played, `[B]`; the agent is not shown them."""
        return self.task_env.tasks

    def _make_specs(self) -> None:
        batch = self.batch_size
        flag = Binary(1, shape=(*batch, 1), dtype=torch.bool)
        scalar = Unbounded((*batch, 1))
        self.observation_spec = Composite(
            {
                keys.OBSERVATION: self.task_env.observation_spec[keys.OBSERVATION].clone(),
                keys.PREVIOUS_ACTION: Unbounded((*batch, self._action_size)),
                keys.PREVIOUS_REWARD: scalar,
                keys.PREVIOUS_DONE: scalar.clone(),
                keys.EPISODE: Unbounded((*batch, 1), dtype=torch.int64),
                keys.ELAPSED: scalar.clone(),
                keys.IS_INIT: flag,
                keys.MASK: flag.clone(),
                keys.EPISODE_ENDED: flag.clone(),
            },
            shape=batch,
        )
        if self.shows_previous_observation:
            shown = self.observation_spec[keys.OBSERVATION]
            previous = Unbounded(shown.shape, dtype=shown.dtype)
            self.observation_spec[keys.PREVIOUS_OBSERVATION] = previous
        if self.shows_position:
            self.observation_spec[keys.POSITION] = Unbounded((*batch, 2))
        self.action_spec = self.task_env.action_spec.clone()
        self.reward_spec = scalar.clone()
        done_keys = (keys.TRIAL_DONE, keys.TRIAL_TERMINATED)
        self.done_spec = Composite({key: flag.clone() for key in done_keys}, shape=batch)
        self.to(self.device)

    def _reset(
        self,
        tensordict: TensorDictBase | None = None,
        *,
        tasks: TensorDictBase | None = None,
        **_: Any,
    ) -> TensorDict:
        rows = reset_rows(self, tensordict)
        if tasks is None and tensordict is not None:
            tasks = tensordict.get(keys.TASK, None)
        if tasks is None:
            tasks = self.task_env.sample_training_tasks(self.task_env.num_tasks)
        self.task_env.set_tasks(tasks, rows)
        yes, no = torch.ones_like(rows), torch.zeros_like(rows)
        observation = self.task_env.start_episodes(rows)
        started = self._pack({
            keys.OBSERVATION: observation,
            keys.PREVIOUS_ACTION: self._zero.expand(-1, self._action_size),
            keys.PREVIOUS_REWARD: self._zero,
            keys.PREVIOUS_DONE: torch.ones_like(self._zero),
            keys.EPISODE: torch.zeros_like(rows, dtype=torch.int64),
            keys.ELAPSED: self._zero,
            keys.IS_INIT: yes,
            keys.MASK: yes,
            keys.EPISODE_ENDED: no,
            keys.TRIAL_DONE: no,
            keys.TRIAL_TERMINATED: no,
        })  # fmt: skip
        if self.shows_previous_observation:
            started.set(keys.PREVIOUS_OBSERVATION, torch.zeros_like(observation))
        if self.shows_position:
            started.set(keys.POSITION, self.task_env.position)
        self._steps = torch.where(rows, 0, self._steps)
        if self._current is not None:
            started = started.where(rows.squeeze(-1), self._current)
        self._current = started
        return started.clone(recurse=False)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        assert self._current is not None, "a trial is played only after a reset"
        action = tensordict.get(keys.ACTION)
        playing, episode = self._current[keys.MASK], self._current[keys.EPISODE]
        expected = self.task_env.expected_reward(action) if self.expected_rewards else None
        transition = self.task_env.play(action)
        # Before the next episode begins.
        reached = self.task_env.position if self.shows_position else None
        episode_done = transition.episode_done & playing
        reward = torch.where(playing, transition.reward, 0.0)
        learnt_from = reward if expected is None else torch.where(playing, expected, 0.0)
        self._steps = self._steps + playing
        finished = ~playing | self._out_of_budget(episode + episode_done, episode_done)
        # Where the trial is a cut of a longer life, the value beyond the cut is that of a start.
        begins = episode_done if self.continues else episode_done & ~finished
        observation = torch.where(
            begins.view(-1, *[1] * (transition.observation.ndim - 1)),
            self.task_env.start_episodes(begins),
            transition.observation,
        )
        answer = self._pack({
            keys.OBSERVATION: observation,
            keys.PREVIOUS_ACTION: self._as_input(action),
            keys.PREVIOUS_REWARD: reward,
            keys.PREVIOUS_DONE: episode_done.float(),
            keys.EPISODE: episode + begins,
            keys.ELAPSED: self._elapsed(episode + begins, finished),
            keys.IS_INIT: torch.zeros_like(playing),
            keys.MASK: ~finished,
            keys.EPISODE_ENDED: episode_done,
            keys.TRIAL_DONE: finished,
            keys.TRIAL_TERMINATED: torch.zeros_like(finished) if self.continues else finished,
            keys.STEP_REWARD: learnt_from,
        })  # fmt: skip
        if self.shows_previous_observation:
            answer.set(keys.PREVIOUS_OBSERVATION, self._current[keys.OBSERVATION])
        if reached is not None:
            answer.set(keys.POSITION, reached)
        self._current = answer.exclude(keys.STEP_REWARD)
        return answer

    def _out_of_budget(self, episodes_played: Tensor, episode_done: Tensor) -> Tensor:
        if self.episodes_per_trial is None:
            return self._steps >= self.max_steps
        return episode_done & (episodes_played >= self.episodes_per_trial)

    def _elapsed(self, episodes_played: Tensor, finished: Tensor) -> Tensor:
        if self.continues:
            # A longer life has no known end.
            return self._zero
        if self.episodes_per_trial is None:
            elapsed = self._steps / self.max_steps
        else:
            within = self.task_env.episode_steps / self.task_env.max_episode_steps
            elapsed = (episodes_played + within) / self.episodes_per_trial
        return torch.where(finished, 1.0, elapsed)

    def _as_input(self, action: Tensor) -> Tensor:
        # `one_hot` of PyTorch looks at the values, for which a device would be waited for.
        return action if self._num_actions is None else self._one_hot[action]

    def _pack(self, entries: dict[str, Tensor]) -> TensorDict:
        return TensorDict(entries, batch_size=self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        self.task_env.set_seed(seed)
