"""The trials of a run: collected ones to learn from, held-out ones to look at."""

from collections.abc import Iterator
from typing import Any, Protocol, cast

import lightning.pytorch as pl
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.envs.utils import ExplorationType

from rl2_lightning.collection.collector import (
    PrimedTrialEnv,
    TaskEnvFactory,
    finite_policy,
    make_collector,
    play_trials,
)
from rl2_lightning.collection.plan import CollectionPlan, Stage
from rl2_lightning.collection.seeding import Purpose, derive_seed, seed_play
from rl2_lightning.collection.stream import TrialStream, cut_windows
from rl2_lightning.config import CollectionConfig, EvaluationConfig, TrialConfig
from rl2_lightning.envs.trial_env import TrialEnv
from rl2_lightning.evaluation.held_out import HeldOutTasks


class Policy(Protocol):
    """The agent, as far as collection knows it."""

    state_keys: list[str]
    critic_sees_task: bool

    def add_values(self, trials: TensorDictBase, tasks: TensorDictBase) -> TensorDictBase:
        """Completes the values of collected trials `[B, T]` whose critic sees the tasks `[B]`."""


class TrialLearner(Protocol):
    """The learner, as far as collection knows it."""

    network: TensorDictModuleBase
    num_epochs: int
    num_minibatches: int

    def prepare_trials(self, trials: TensorDictBase) -> TensorDictBase:
        """Adds to collected trials `[B, T]` what the loss needs."""


class TrialDataModule(pl.LightningDataModule):
    """Plays trials with the current agent, on the device where it learns.

    Iteration i on rank r is seeded from (seed, r, i) alone, so that a resumed run is the run that
    was never stopped, and every rank plays its own tasks.

    Args:
        make_task_env: builds the family of tasks from `num_tasks` and `device`.
        trial: what a trial is.
        collection: how trials are gathered.
        evaluation: the held-out tasks.
        seed: of the run; the held-out tasks have one of their own.
        shows_previous_observation: whether trials show it.

    Attributes:
        held_out: the tasks of `validation` and `test`, with the curves of their oracles.
        max_steps: T, most env steps that a trial can have.
        max_episodes: most episodes that a trial can have.
        plan: what each iteration collects.

    Raises:
        UserError: the budget is smaller than one iteration.
    """

    def __init__(
        self,
        make_task_env: TaskEnvFactory,
        trial: TrialConfig,
        collection: CollectionConfig,
        evaluation: EvaluationConfig,
        seed: int,
        *,
        shows_previous_observation: bool = False,
    ) -> None:
        super().__init__()
        self._make_task_env = make_task_env
        self._trial = trial
        self._collection = collection
        self._evaluation = evaluation
        self._seed = seed
        self._shows_previous_observation = shows_previous_observation
        self._evaluation_envs: dict[int, PrimedTrialEnv] = {}
        self._stage: Stage | None = None
        self._stage_players: tuple[PrimedTrialEnv, Collector]
        self.specimen = self._make_trial_env(1, torch.device("cpu"))
        self.max_steps = self.specimen.max_steps
        self.max_episodes = self.specimen.max_episodes
        self.held_out = {
            "validation": self._hold_out(Purpose.VALIDATION_TASKS, evaluation.validation_tasks),
            "test": self._hold_out(Purpose.TEST_TASKS, evaluation.test_tasks),
        }
        length = trial.episodes_per_trial or trial.steps_per_trial or 0
        self.plan = CollectionPlan(collection, length, self.max_steps // length)

    def train_dataloader(self) -> TrialStream:
        """The minibatches of the current iteration; iterating over it collects."""
        learner = self._learner
        return TrialStream(
            self._collect,
            lambda epoch: self._iteration_seed(Purpose.MINIBATCHES, epoch),
            num_epochs=learner.num_epochs,
            num_minibatches=learner.num_minibatches,
        )

    def _collect(self) -> TensorDictBase:
        """Plays the trials of the current iteration, and cuts them into windows."""
        learner, trainer = self._learner, self._trainer
        policy = cast(Policy, learner.network)
        env, collector = self._players(self.plan.stage_at(trainer.current_epoch))
        seeds = (self._iteration_seed(p) for p in (Purpose.ENVIRONMENT, Purpose.ACTIONS))
        seed_play(env, *seeds)
        with trainer.precision_plugin.forward_context(), finite_policy():
            trials = collector.rollout()
            # Not shown at each step: it would be stored as often.
            tasks = env.base_env.tasks if policy.critic_sees_task else None
            if tasks is not None:
                trials = policy.add_values(trials, tasks)
        num_steps = env.base_env.max_steps
        return cut_windows(
            learner.prepare_trials(trials)[:, :num_steps],
            min(self._collection.window or num_steps, num_steps),
            self._collection.burn_in,
            policy.state_keys,
            tasks,
        )

    def _players(self, stage: Stage) -> tuple[PrimedTrialEnv, Collector]:
        """What plays the trials of a stage; that of the stage before is let go."""
        if self._stage != stage:
            num_trials = stage.num_trials // self._trainer.world_size
            env = self._prime(num_trials, length=stage.trial_length, to_learn=True)
            # Where the trial is a cut, the step after it gives the value to bootstrap from.
            num_steps = env.base_env.max_steps + self._trial.continues
            self._stage_players = env, make_collector(env, self._learner.network, num_steps)
            self._stage = stage
        return self._stage_players

    def val_dataloader(self) -> list["HeldOutTrials"]:
        """Trials of the validation tasks, played greedily and by sampling."""
        return self._held_out_trials("validation")

    def test_dataloader(self) -> list["HeldOutTrials"]:
        """Trials of the test tasks, played greedily and by sampling."""
        return self._held_out_trials("test")

    def play_held_out(
        self,
        tasks: TensorDictBase,
        exploration_type: ExplorationType,
        first_task: int,
        *,
        with_positions: bool = False,
    ) -> TensorDictBase:
        """Plays one trial of each of some held-out tasks with the current agent.

        Args:
            tasks: `[B]`.
            exploration_type: whether the actions are sampled or the most likely ones.
            first_task: index of the first of them, from which luck is seeded.
            with_positions: whether to watch where the agent goes; for families that have a scene.

        Returns:
            Rewards, episodes and mask, what the family records, and if wanted what the agent saw
            and where each step led to, `[B, T]`.
        """
        num_tasks = len(tasks)
        if with_positions:
            env = self._prime(num_tasks, shows_position=True)
        elif num_tasks not in self._evaluation_envs:
            env = self._evaluation_envs[num_tasks] = self._prime(num_tasks)
        else:
            env = self._evaluation_envs[num_tasks]
        purposes = (Purpose.EVALUATION_ENVIRONMENT, Purpose.EVALUATION_ACTIONS)
        seed_play(env, *(derive_seed(p, self._evaluation.tasks_seed, first_task) for p in purposes))
        with self._trainer.precision_plugin.forward_context():
            return play_trials(env, self._learner.network, tasks, exploration_type)

    def _held_out_trials(self, stage: str) -> list["HeldOutTrials"]:
        trainer = self._trainer
        tasks = self.held_out[stage].tasks
        share = torch.arange(len(tasks)).tensor_split(trainer.world_size)[trainer.global_rank]
        chunks = share.split(self._evaluation.batch_size)
        return [
            HeldOutTrials(self, tasks, [chunk.tolist() for chunk in chunks], exploration_type)
            for exploration_type in (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM)
        ]

    def _iteration_seed(self, purpose: Purpose, *counters: int) -> int:
        rank, iteration = self._trainer.global_rank, self._trainer.current_epoch
        return derive_seed(purpose, self._seed, rank, iteration, *counters)

    def _hold_out(self, purpose: Purpose, num_tasks: int) -> HeldOutTasks:
        env = self._make_task_env(num_tasks=1, device="cpu")
        seed = derive_seed(purpose, self._evaluation.tasks_seed)
        env.set_seed(seed)
        tasks = env.sample_tasks(num_tasks)
        # Oracles play whole episodes; of a trial in env steps they would play more than the agent.
        in_episodes = self._trial.episodes_per_trial is not None
        is_whole = not env.ends_early and self.max_steps % env.max_episode_steps == 0
        return HeldOutTasks(
            env, tasks, self.max_episodes, seed, has_oracles=in_episodes or is_whole
        )

    def _make_trial_env(
        self,
        num_trials: int,
        device: torch.device,
        *,
        length: int | None = None,
        to_learn: bool = False,
        shows_position: bool = False,
    ) -> TrialEnv:
        trial = self._trial
        in_episodes = trial.episodes_per_trial is not None
        return TrialEnv(
            self._make_task_env(num_tasks=num_trials, device=device),
            episodes_per_trial=(length or trial.episodes_per_trial) if in_episodes else None,
            steps_per_trial=None if in_episodes else (length or trial.steps_per_trial),
            continues=trial.continues,
            expected_rewards=to_learn and self._collection.expected_rewards,
            shows_previous_observation=self._shows_previous_observation,
            shows_position=shows_position,
        )

    def _prime(self, num_trials: int, **options: Any) -> PrimedTrialEnv:
        device = self._trainer.strategy.root_device
        env = self._make_trial_env(num_trials, device, **options)
        return PrimedTrialEnv(env, self._learner.network)

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "the trainer attaches itself before it asks for data"
        return self.trainer

    @property
    def _learner(self) -> TrialLearner:
        return cast(TrialLearner, self._trainer.lightning_module)


class HeldOutTrials:
    """Plays held-out tasks chunk by chunk, each time it is iterated over, with the same seeds.

    Args:
        data: plays the tasks.
        tasks: all tasks, `[N]`.
        chunks: indices of the tasks that are played together.
        exploration_type: whether the actions are sampled or the most likely ones.
    """

    def __init__(
        self,
        data: TrialDataModule,
        tasks: TensorDictBase,
        chunks: list[list[int]],
        exploration_type: ExplorationType,
    ) -> None:
        self._data = data
        self._tasks = tasks
        self._chunks = chunks
        self._exploration_type = exploration_type

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[TensorDictBase]:
        for chunk in self._chunks:
            yield self._data.play_held_out(self._tasks[chunk], self._exploration_type, chunk[0])
