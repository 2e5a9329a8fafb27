"""The base class of a family of tasks: a batch of tasks from one distribution."""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.analysis import Analysis
from rl2_lightning.families.execution import BATCHED
from rl2_lightning.families.places import Places
from rl2_lightning.families.player import ClosedFormPlayer, Player
from rl2_lightning.families.scene import Scene
from rl2_lightning.inputs import Observation, select_rows
from rl2_lightning.settings import Settings, SettingsType, make_settings


class Transition(NamedTuple):
    """The result of a step in B tasks.

    Attributes:
        observation: `[B, *observation]`, float32.
        reward: `[B, 1]`, float32.
        terminated: `[B, 1]`, bool: the task ended the episode.
        episode_done: `[B, 1]`, bool: terminated or cut.
    """

    observation: Observation
    reward: Tensor
    terminated: Tensor
    episode_done: Tensor


class TaskEnv(EnvBase):
    """A batch of B tasks of one family, each played episode by episode.

    A family declares its `Settings`, builds them with `read_settings`, and implements
    `sample_tasks`, `begin_episodes` and `advance`. All randomness comes from `self.generator`, so
    that a seed fixes everything. `reset` starts a new episode in the rows of the `_reset` mask, on
    the tasks given as `"task"` or on new ones; the other rows keep their task and episode.

    Its constructor takes `num_tasks`, `device` and the fields of its settings as keyword arguments.

    Args:
        num_tasks: B, the number of tasks played at once.
        observation_spec: spec of one observation, without the batch dimension; a `Composite` for
            several.
        action_spec: spec of one action, without the batch dimension.
        max_episode_steps: length at which an episode is cut, in env steps.
        device: device of the environment.

    Raises:
        UserError: `max_episode_steps` is less than 1.

    Attributes:
        Settings: dataclass of the family's settings.
        recorded_keys: entries of a step that an evaluation records for the family's own analysis,
            in addition to the rewards.
        ends_early: whether an episode may end before it is cut.
        is_watched: false while observations are not used and need not be rendered.
        truncated: where `advance` has cut an episode before `max_episode_steps`, `[B, 1]`, bool;
            None in a family that never does.
        info: what else `advance` tells of its step, for records alone: `[B, 1]`, float32, by name.
        backends: where its tasks can be played, `collection.backend`; a family with several takes
            an `Execution` as the argument `execution`.
    """

    Settings: ClassVar[type[Settings]] = Settings
    tasks: TensorDictBase
    recorded_keys: tuple[str | tuple[str, ...], ...] = ()
    ends_early: bool = False
    is_watched: bool = True
    truncated: Tensor | None = None
    info: Mapping[str, Tensor] = MappingProxyType({})
    backends: ClassVar[tuple[str, ...]] = (BATCHED,)

    def __init__(
        self,
        num_tasks: int,
        *,
        observation_spec: TensorSpec,
        action_spec: TensorSpec,
        max_episode_steps: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if max_episode_steps < 1:
            raise UserError(f"horizon={max_episode_steps}: an episode needs at least 1 step")
        super().__init__(device=torch.device(device), batch_size=torch.Size([num_tasks]))
        self.num_tasks = num_tasks
        self.max_episode_steps = max_episode_steps
        self.generator = torch.Generator(self.device)
        flag = Binary(1, shape=(1,), dtype=torch.bool)
        batch = self.batch_size
        self.observation_spec = Composite({keys.OBSERVATION: observation_spec}).expand(batch)
        self.action_spec = action_spec.expand(*batch, *action_spec.shape)
        self.reward_spec = Unbounded((*batch, 1))
        done_keys = (keys.TRIAL_DONE, keys.TRIAL_TERMINATED, keys.TRUNCATED)
        self.done_spec = Composite({key: flag.clone() for key in done_keys}).expand(batch)
        self.to(self.device)
        self.episode_steps = torch.zeros(num_tasks, 1, dtype=torch.int64, device=self.device)
        self.is_closed = False  # TorchRL would consider it closed, and never close it

    @classmethod
    def read_settings(cls, schema: type[SettingsType], fields: Mapping[str, Any]) -> SettingsType:
        """Build the family's settings from the arguments of its constructor.

        Raises:
            UserError: a field is unknown, or its value is of a wrong type or out of range.
        """
        return make_settings(schema, fields, "env")

    @abstractmethod
    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw tasks from the family's distribution.

        Returns:
            The parameters of `num_tasks` tasks, `[num_tasks]`, on the environment's device.
        """

    def sample_training_tasks(self, num_tasks: int) -> TensorDict:
        """Draw tasks to train on, which a reset uses if it is given none.

        A family that trains on a subset of its tasks overrides this.

        Returns:
            The same as `sample_tasks`, which draws the held-out tasks.
        """
        return self.sample_tasks(num_tasks)

    @abstractmethod
    def begin_episodes(self, rows: Tensor) -> Observation:
        """Start a new episode in some rows; the others do not change.

        Args:
            rows: `[B, 1]`, bool; may be all false.

        Returns:
            The observation of every row, `[B, *observation]`: the current one where no episode
            begins.
        """

    @abstractmethod
    def advance(self, action: Tensor, playing: Tensor) -> tuple[Observation, Tensor, Tensor]:
        """Play one step of the rows that are playing.

        Args:
            action: `[B]`, int64, or `[B, A]`, int64 or float32.
            playing: `[B, 1]`, bool. The other rows do not change; their actions and results are
                ignored.

        Returns:
            Observation `[B, *observation]`, reward `[B, 1]`, and whether the task ended the
            episode, `[B, 1]`, bool.
        """

    def expected_reward(self, action: Tensor) -> Tensor | None:
        """The mean of the reward that an action is about to earn, given the task and the state.

        A family with random rewards may implement it, so that agents can learn from less noise.

        Args:
            action: action as for `advance`.

        Returns:
            `[B, 1]`, float32; None if the family does not provide it.
        """
        return None

    def players(self, num_episodes: int) -> Mapping[str, Player | ClosedFormPlayer]:
        """The reference players for trials of `num_episodes`, by name; the best one last."""
        return {}

    def analysis(self, num_episodes: int) -> Analysis | None:
        """The family's own analysis of trials of `num_episodes`; None if there is none."""
        return None

    @property
    def full_observation(self) -> Observation | None:
        """The observation of privileged players; None if it is the normal one."""
        return None

    def scene(self, task: TensorDictBase) -> Scene | None:
        """The map of one task `[]`, for families played in the plane; None for others."""
        return None

    @property
    def places(self) -> Places | None:
        """The places of a family that has finitely many, one of which is the goal, or None."""
        return None

    @property
    def position(self) -> Tensor:
        """The positions of the agents, x and y, `[B, 2]`, float32, in families with a scene."""
        raise NotImplementedError(f"{type(self).__name__} is not played in the plane")

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Set new tasks in some rows.

        Args:
            tasks: task parameters, `[B]`.
            rows: `[B, 1]`, bool.

        Raises:
            UserError: the number of tasks differs from that of the environment.
        """
        if tasks.batch_size != self.batch_size:
            raise UserError(
                f"{type(self).__name__} plays {self.num_tasks} tasks at once, but was given "
                f"{tasks.batch_size}; pass one task for each row"
            )
        tasks = tasks.to(self.device)
        if not hasattr(self, "tasks"):
            self.tasks = tasks.clone()
        else:
            self.tasks = tasks.apply(
                lambda new, old: select_rows(rows, new, old),
                self.tasks,
            )

    def start_episodes(self, rows: Tensor) -> Observation:
        """Start a new episode in the rows `[B, 1]`, and return the observation of every row."""
        self.episode_steps = self.episode_steps.masked_fill(rows, 0)
        return self.begin_episodes(rows)

    def play(self, action: Tensor, playing: Tensor) -> Transition:
        """Play one step, see `advance`, and cut the episodes that reach `max_episode_steps`."""
        observation, reward, terminated = self.advance(action, playing)
        self.episode_steps = self.episode_steps + playing
        episode_done = terminated | (self.episode_steps >= self.max_episode_steps)
        if self.truncated is not None:
            episode_done = episode_done | self.truncated
        return Transition(observation, reward, terminated, episode_done)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDict:
        rows = reset_rows(self, tensordict)
        given = None if tensordict is None else tensordict.get(keys.TASK, None)
        tasks = self.sample_training_tasks(self.num_tasks) if given is None else given
        self.set_tasks(tasks, rows)
        observation = self.start_episodes(rows)
        not_done = torch.zeros_like(rows)
        return self._pack(
            {
                keys.OBSERVATION: observation,
                keys.TRIAL_DONE: not_done,
                keys.TRIAL_TERMINATED: not_done,
                keys.TRUNCATED: not_done,
            }
        )

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        everywhere = torch.ones_like(self.episode_steps, dtype=torch.bool)
        transition = self.play(tensordict.get(keys.ACTION), everywhere)
        return self._pack({
            keys.OBSERVATION: transition.observation,
            keys.STEP_REWARD: transition.reward,
            keys.TRIAL_DONE: transition.episode_done,
            keys.TRIAL_TERMINATED: transition.terminated,
            keys.TRUNCATED: transition.episode_done & ~transition.terminated,
        })  # fmt: skip

    def _pack(self, entries: dict[str, Any]) -> TensorDict:
        return TensorDict(entries, batch_size=self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(seed)


def reset_rows(env: EnvBase, tensordict: TensorDictBase | None) -> Tensor:
    """The rows to reset.

    Returns:
        The `_reset` mask of the request, or all rows without one; `[B, 1]`, bool.
    """
    rows = None if tensordict is None else tensordict.get(keys.RESET, None)
    if rows is None:
        return torch.ones(*env.batch_size, 1, dtype=torch.bool, device=env.device)
    return rows.view(*env.batch_size, 1)
