"""Any Gymnasium environment as a family of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.analysis import Analysis
from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium.actions import ActionLayout
from rl2_lightning.families.gymnasium.backends import BACKENDS, make_rows
from rl2_lightning.families.gymnasium.observations import InvalidObservation, ObservationLayout
from rl2_lightning.families.gymnasium.recorded import RecordedInfo
from rl2_lightning.families.gymnasium.row import Row
from rl2_lightning.families.gymnasium.rows import Layouts, Results, Rows, failure
from rl2_lightning.families.gymnasium.settings import GymnasiumSettings
from rl2_lightning.families.gymnasium.specs import action_spec, observation_spec
from rl2_lightning.families.gymnasium.tasks import LARGEST_SEED, Source, TaskLayout
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.task_env import TaskEnv, Transition
from rl2_lightning.inputs import Observation


class GymnasiumTasks(TaskEnv):
    """Tasks of a Gymnasium environment, one environment for each task that is played at once.

    All random numbers of the tasks, and the seed of each trial's environment, are drawn here, so
    that results do not depend on where the environments are played. An environment goes on with its
    own random numbers from one episode of a trial to the next.

    An environment's time limit and `horizon` cut an episode, as `max_episode_steps` does in any
    family. Observations are float32, uint8 for images with the channels first, and one-hot for
    numbers of values.

    Args:
        num_tasks: B, the number of environments.
        device: where tensors are; the environments are played on the CPU.
        execution: where the environments are played.
        **settings: fields of `GymnasiumSettings`.

    Raises:
        UserError: the environment cannot be made, its spaces are not supported, or it has no time
            limit.
    """

    Settings = GymnasiumSettings
    ends_early = True
    backends = BACKENDS

    def __init__(
        self,
        num_tasks: int,
        device: torch.device | str = "cpu",
        execution: Execution = Execution(),  # noqa: B008  it is frozen
        **settings: Any,
    ) -> None:
        self.settings = self.read_settings(GymnasiumSettings, settings)
        self._training, self._held_out = self.settings.sources()
        self._execution = execution
        self._layouts, self._task_layout, limit = self._look(self.settings)
        self._recorded = self._layouts.recorded
        self.recorded_keys = tuple(keys.of_info(name) for name in self._recorded)
        super().__init__(
            num_tasks,
            observation_spec=observation_spec(self._layouts.observations),
            action_spec=action_spec(self._layouts.actions),
            max_episode_steps=self.settings.horizon or limit,
            device=device,
        )
        self._is_on_cpu = self.device.type == "cpu"
        self._rows: Rows | None = None  # made when an episode begins
        self._seeds = np.zeros(num_tasks, np.int64)
        self._has_new_task = np.ones(num_tasks, bool)
        # A list, since setting an attribute of a module takes as long as a tensor operation.
        self._shown: list[Observation] = []

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw tasks, those to evaluate on if they are limited to some."""
        return self._sample(self._held_out, num_tasks)

    def sample_training_tasks(self, num_tasks: int) -> TensorDict:
        """Draw tasks to train on."""
        return self._sample(self._training, num_tasks)

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Set new tasks, and draw the seeds of their environments; see `TaskEnv.set_tasks`."""
        super().set_tasks(tasks, rows)
        shape, device = (self.num_tasks,), self.device
        draw = torch.randint(LARGEST_SEED, shape, generator=self.generator, device=device)
        new = _as_array(rows)[:, 0]
        self._seeds = np.where(new, draw.cpu().numpy(), self._seeds)
        self._has_new_task |= new

    def begin_episodes(self, rows: Tensor) -> Observation:
        """Reset the environments of the given rows."""
        return self._start(_as_array(rows)[:, 0])

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Observation, Tensor, Tensor]:
        """Step the environments of the rows that are playing."""
        results = self._step_rows(action, _as_array(playing)[:, 0])
        if results.truncated.any() or self.truncated is not None:
            self.truncated = self._column(results.truncated)
        return self._shown[0], self._column(results.reward), self._column(results.terminated)

    def start_episodes(self, rows: Tensor) -> Observation:
        """See `TaskEnv.start_episodes`; on arrays, like `play`."""
        if not self._is_on_cpu:
            return super().start_episodes(rows)
        begins = rows.numpy()
        self.episode_steps.numpy()[begins] = 0
        return self._start(begins[:, 0])

    def play(self, action: Tensor, playing: Tensor) -> Transition:
        """See `TaskEnv.play`; on arrays, whose operations take a fraction of the time."""
        if not self._is_on_cpu:
            return super().play(action, playing)
        steps = playing.numpy()
        results = self._step_rows(action, steps[:, 0])
        count = self.episode_steps.numpy()
        count += steps
        done = (count >= self.max_episode_steps)[:, 0] | results.terminated | results.truncated
        return Transition(
            self._shown[0],
            self._column(results.reward),
            self._column(results.terminated),
            self._column(done),
        )

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random player."""
        return {"random": RandomPlayer(self.action_spec_unbatched)}

    def analysis(self, num_episodes: int) -> Analysis | None:
        """The recorded entries of each episode, if there are any."""
        return RecordedInfo(self._recorded, num_episodes) if self._recorded else None

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the environments."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None
        super().close(raise_if_closed=raise_if_closed)

    def _sample(self, source: Source, num_tasks: int) -> TensorDict:
        # The user's lists and functions are of the CPU.
        seed = torch.randint(2**62, (), generator=self.generator, device=self.device)
        tasks = source.draw(num_tasks, torch.Generator().manual_seed(int(seed)))
        return self._task_layout.pack(tasks, source.place).to(self.device)

    def _start(self, begins: np.ndarray[Any, Any]) -> Observation:
        """Start episodes in some rows `[B]`; returns the observation of every row."""
        numbers = begins.nonzero()[0]
        if len(numbers):
            self._begin(numbers)
            self._show(begins)
        return self._shown[0]

    def _begin(self, numbers: np.ndarray[Any, Any]) -> None:
        if self._rows is None:
            self._rows = make_rows(self._layouts, self.num_tasks, self._execution)
        new = numbers[self._has_new_task[numbers]]
        if not len(new):
            self._rows.begin(dict.fromkeys(numbers.tolist()))
            return
        tasks = self._task_layout.unpack(self.tasks[torch.from_numpy(new)])
        given = dict(zip(new.tolist(), tasks, strict=True))
        self._rows.begin(
            {
                number: (given[number], int(self._seeds[number])) if number in given else None
                for number in numbers.tolist()
            }
        )
        self._has_new_task[numbers] = False

    def _step_rows(self, action: Tensor, steps: np.ndarray[Any, Any]) -> Results:
        assert self._rows is not None, "an episode has to begin first"
        results = self._rows.results
        if steps.any():
            self._rows.step(_as_array(action), steps)
            self._show(steps)
        if self._recorded:
            columns = zip(self._recorded, results.recorded.T, strict=True)
            self.info = {name: self._column(column) for name, column in columns}
        return results

    def _show(self, changed: np.ndarray[Any, Any]) -> None:
        """Take over the observations after some rows `[B]` have changed."""
        assert self._rows is not None
        layout, arrays = self._layouts.observations, self._rows.results.observations
        try:
            layout.require_within(arrays, changed)
        except InvalidObservation as error:
            task = self._task_layout.unpack(self.tasks[error.row : error.row + 1].cpu())[0]
            told = "returned an observation that cannot be shown"
            raise failure(self._layouts.maker, told, task, error) from error
        shown = {name: self._as_tensor(array) for name, array in layout.shown(arrays).items()}
        self._shown[:] = [shown[""] if list(shown) == [""] else shown]

    def _column(self, array: np.ndarray[Any, Any]) -> Tensor:
        """Results `[B]` as a column `[B, 1]`, copied."""
        return self._as_tensor(array[:, None].copy())

    def _as_tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self._is_on_cpu else tensor.to(self.device)

    @staticmethod
    def _look(settings: GymnasiumSettings) -> tuple[Layouts, TaskLayout, int]:
        """The spaces of the environment, the form of its tasks, and its time limit."""
        generator = torch.Generator().manual_seed(0)
        training, held_out = settings.sources()
        examples = [(one.examples(generator), one.place) for one in (training, held_out)]
        layout = TaskLayout(examples[0][0][0], settings.id, training.place)
        for some, place in examples:
            layout.widen(some, place)
        packed = [layout.pack(some, place) for some, place in examples]
        layout.require_form(settings.task_by)
        row = Row(settings.maker)
        try:
            try:
                row.set_task(task := layout.unpack(packed[0][:1])[0])
            except Exception as error:  # an environment can raise any exception
                raise failure(settings.maker, "cannot be set up", task, error) from error
            layouts = Layouts(
                settings.maker,
                ObservationLayout(row.env.observation_space, settings.id),
                ActionLayout(row.env.action_space, settings.id, settings.action_bound),
                tuple(settings.recorded),
            )
            limit = settings.maker.registered_limit() or row.time_limit
        finally:
            row.close()
        if limit is None and settings.horizon is None:
            raise UserError(
                f"{settings.id} has no time limit: set env.horizon to the number of env steps at "
                "which an episode is cut"
            )
        return layouts, layout, limit or 1


def _as_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = (tensor if tensor.device.type == "cpu" else tensor.cpu()).numpy()
    return array
