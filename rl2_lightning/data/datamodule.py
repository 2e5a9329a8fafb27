"""The trials of a run: collected ones to learn from, held-out ones to look at."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import lightning.pytorch as pl
import torch
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.config import CollectionConfig
from rl2_lightning.data.clock import Clock
from rl2_lightning.data.collector import TrialCollector
from rl2_lightning.data.plan import CollectionPlan, Stage
from rl2_lightning.data.seeding import Purpose, derive_seed
from rl2_lightning.data.sources import TrialSource
from rl2_lightning.data.windows import cut_windows, state_steps
from rl2_lightning.data.world import World
from rl2_lightning.families.trial_env import TrialEnv

Collect = Callable[[], TensorDictBase]


class TrialLearner(Protocol):
    """The learner, as far as the data knows it.

    Attributes:
        agent: who plays.
        clock: how far the run is.
        keeps_features: whether trials are to hold the agent's features.
        reads_tasks: whether windows are to hold the parameters of their tasks.
    """

    agent: Agent
    clock: Clock
    keeps_features: bool
    reads_tasks: bool

    def prepare(self, trials: TensorDictBase, state_steps: list[int]) -> TensorDictBase:
        """Adds to collected trials `[B]` what the loss needs."""

    def make_source(self, collect: Collect, shuffle_seed: Callable[[int], int]) -> TrialSource:
        """Where its minibatches come from."""


class HeldOutLoaders(Protocol):
    """Held-out tasks, as far as the data knows them."""

    def loaders(
        self,
        agent: Agent,
        device: torch.device,
        rank: int,
        num_ranks: int,
        context: Callable[[], AbstractContextManager[Any]],
    ) -> list[Iterable[TensorDictBase]]:
        """What plays a rank's share of the tasks, chunk by chunk, for each way of acting."""


class TrialDataModule(pl.LightningDataModule):
    """Plays trials with the current agent, on the device where it learns.

    Iteration i on rank r is seeded from (seed, r, i) alone, so that a resumed run is the run that
    was never stopped, and every rank plays its own tasks.

    Args:
        world: makes the trials.
        collection: how they are gathered.
        held_out: the tasks of `validation` and `test`.
        seed: of the run; the held-out tasks have one of their own.

    Attributes:
        plan: what each iteration collects.

    Raises:
        UserError: the budget is smaller than one iteration.
    """

    def __init__(
        self,
        world: World,
        collection: CollectionConfig,
        held_out: Mapping[str, HeldOutLoaders],
        seed: int,
    ) -> None:
        super().__init__()
        self.world = world
        self.held_out = held_out
        self.plan = CollectionPlan(collection, world.trial_length, world.steps_per_unit)
        self._collection = collection
        self._seed = seed
        self._stage: Stage | None = None
        self._collector: TrialCollector
        self._iteration = 0
        self._source: TrialSource | None = None
        self._source_state: dict[str, Any] = {}

    def train_dataloader(self) -> TrialSource:
        """The minibatches of the current iteration; iterating over it collects."""
        self._source = self._learner.make_source(self._collect, self._shuffle_seed)
        if self._source_state:
            self._source.load_state_dict(self._source_state)
        return self._source

    def state_dict(self) -> dict[str, Any]:
        """The state of the source, for a checkpoint; empty where it needs none."""
        state = {} if self._source is None else self._source.state_dict()
        return {"source": state} if state else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state of a source until there is one."""
        self._source_state = state_dict.get("source", {})

    def val_dataloader(self) -> list[Iterable[TensorDictBase]]:
        """Trials of the validation tasks, played in each way of acting."""
        return self._loaders("validation")

    def test_dataloader(self) -> list[Iterable[TensorDictBase]]:
        """Trials of the test tasks, played in each way of acting."""
        return self._loaders("test")

    def teardown(self, stage: str) -> None:
        """Closes the environments."""
        self.close()

    def close(self) -> None:
        """Closes the environments; also for runs that fail, after which nobody tears down."""
        if self._stage is not None:
            self._collector.shutdown()
            self._stage = None
        self.world.close()

    def _collect(self) -> TensorDictBase:
        """Plays the trials of the current iteration, and cuts them into windows."""
        learner = self._learner
        self._iteration = learner.clock.iterations
        collector = self._collector_of(self.plan.stage_at(self._iteration))
        collector.seed(self._seed_of(Purpose.ENVIRONMENT), self._seed_of(Purpose.ACTIONS))
        lengths = self._lengths(collector.env)
        with self._trainer.precision_plugin.forward_context():
            trials = collector.rollout()
            trials = learner.prepare(trials, state_steps(*lengths))
        kept = [keys.TASK] if learner.reads_tasks else []
        return cut_windows(trials, *lengths, kept)

    def _collector_of(self, stage: Stage) -> TrialCollector:
        """What plays the trials of a stage; that of the stage before is let go."""
        if self._stage != stage:
            if self._stage is not None:
                self._collector.shutdown()
            trainer = self._trainer
            env = self.world.make_trials(
                stage.num_trials // trainer.world_size,
                trainer.strategy.root_device,
                length=stage.trial_length,
                expected_rewards=self._collection.expected_rewards,
            )
            self._collector = TrialCollector(
                env,
                self._learner.agent,
                state_steps=state_steps(*self._lengths(env)),
                # Where the trial is a cut, the step after it gives the value to bootstrap from.
                num_extra_steps=int(self.world.continues),
                keeps_features=self._learner.keeps_features,
            )
            self._stage = stage
        return self._collector

    def _lengths(self, env: TrialEnv) -> tuple[int, int, int]:
        """Env steps of a trial, of a window and of a burn-in; of short trials all are cut."""
        num_steps = env.max_steps
        window = min(self._collection.window or num_steps, num_steps)
        return num_steps, window, min(self._collection.burn_in, window)

    def _loaders(self, stage: str) -> list[Iterable[TensorDictBase]]:
        trainer = self._trainer
        return self.held_out[stage].loaders(
            self._learner.agent,
            trainer.strategy.root_device,
            trainer.global_rank,
            trainer.world_size,
            trainer.precision_plugin.forward_context,
        )

    def _shuffle_seed(self, epoch: int) -> int:
        return self._seed_of(Purpose.MINIBATCHES, epoch)

    def _seed_of(self, purpose: Purpose, *counters: int) -> int:
        rank = self._trainer.global_rank
        return derive_seed(purpose, self._seed, rank, self._iteration, *counters)

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "the trainer attaches itself before it asks for data"
        return self.trainer

    @property
    def _learner(self) -> TrialLearner:
        return cast(TrialLearner, self._trainer.lightning_module)
