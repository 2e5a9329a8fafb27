"""The data module of a run: collected trials for training and held-out ones for evaluation."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import lightning.pytorch as pl
import torch
from tensordict import TensorDictBase
from torch import distributed

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
from rl2_lightning.errors import UserError
from rl2_lightning.families.play import Actor
from rl2_lightning.families.trial_env import TrialEnv

Collect = Callable[[], TensorDictBase]


class TrialLearner(Protocol):
    """The part of a learner's interface that the data module uses.

    Attributes:
        agent: the agent that plays.
        clock: the counters of the run.
        reads_tasks: whether windows need the parameters of their tasks.
        num_following: number of steps that windows need beyond their end.
        uses_graphs: whether its operations are recorded as CUDA graphs.
    """

    agent: Agent
    clock: Clock
    reads_tasks: bool
    num_following: int
    uses_graphs: bool

    def make_actor(self, generator: torch.Generator) -> Actor:
        """The actor that plays the trials of an iteration."""

    def begin_collection(self) -> None:
        """Get ready to collect the trials of an iteration."""

    def note_inputs(self, steps: TensorDictBase) -> None:
        """Measure the inputs of collected steps, `[B, T]`."""

    def prepare(self, trials: TensorDictBase, state_steps: list[int]) -> TensorDictBase:
        """Add to collected trials `[B]` what the loss needs."""

    def make_source(self, collect: Collect, shuffle_seed: Callable[[int], int]) -> TrialSource:
        """The source of its minibatches."""


class HeldOutLoaders(Protocol):
    """The part of the held-out tasks' interface that the data module uses."""

    def loaders(
        self,
        agent: Agent,
        device: torch.device,
        rank: int,
        num_ranks: int,
        context: Callable[[], AbstractContextManager[Any]],
    ) -> list[Iterable[TensorDictBase]]:
        """Loaders that play a rank's share of the tasks in chunks, one for each way of acting."""


class TrialDataModule(pl.LightningDataModule):
    """Plays trials with the current agent on its device.

    Iteration i on rank r is seeded from (seed, r, i) alone. So a resumed run equals an
    uninterrupted one, and every rank plays tasks of its own.

    Args:
        world: creates the environments of the trials.
        collection: the settings of the collection.
        held_out: the tasks of `validation` and `test`.
        seed: seed of the run; the held-out tasks have one of their own.

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
        """The source of the minibatches; iterating over it collects an iteration's trials."""
        self._source = self._learner.make_source(self._collect, self._shuffle_seed)
        if self._source_state:
            self._source.load_state_dict(self._source_state)
            self._source_state = {}  # it may be as large as the memory
        return self._source

    def state_dict(self) -> dict[str, Any]:
        """The states of the sources of all ranks, for a checkpoint; empty if they have none.

        Lightning calls it on all ranks, and stores what rank zero returns.
        """
        state = self._source_state if self._source is None else self._source.state_dict()
        if not state:
            return {}
        states: list[dict[str, Any] | None] = [state]
        if self._trainer.world_size > 1:
            is_first = self._trainer.is_global_zero
            states = [None] * self._trainer.world_size
            distributed.gather_object(state, states if is_first else None)
        return {"sources": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store the state of this rank's source until the source is created.

        Raises:
            UserError: the checkpoint is of a run with another number of ranks.
        """
        states = state_dict.get("sources", [])
        if states and len(states) != self._trainer.world_size:
            raise UserError(
                f"the checkpoint has the replay buffers of {len(states)} device(s), this run has "
                f"{self._trainer.world_size}: resume on as many, or start a new training with "
                "start_from"
            )
        self._source_state = states[self._trainer.global_rank] if states else {}

    def val_dataloader(self) -> list[Iterable[TensorDictBase]]:
        """Loaders of trials of the validation tasks, one for each way of acting."""
        return self._loaders("validation")

    def test_dataloader(self) -> list[Iterable[TensorDictBase]]:
        """Loaders of trials of the test tasks, one for each way of acting."""
        return self._loaders("test")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Leave trials where they were played; Lightning would look at each of their tensors."""
        if isinstance(batch, TensorDictBase) and batch.device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def teardown(self, stage: str) -> None:
        """Close the environments."""
        self.close()

    def close(self) -> None:
        """Close the environments; also needed after a failed run, without a `teardown`."""
        if self._stage is not None:
            self._collector.shutdown()
            self._stage = None
        self.world.close()

    def _collect(self) -> TensorDictBase:
        """Play the trials of the current iteration, and cut them into windows."""
        learner = self._learner
        self._iteration = learner.clock.iterations
        collector = self._collector_of(self.plan.stage_at(self._iteration))
        collector.seed(self._seed_of(Purpose.ENVIRONMENT), self._seed_of(Purpose.ACTIONS))
        lengths = self._lengths(collector.env)
        learner.begin_collection()
        with self._trainer.precision_plugin.forward_context():
            trials = collector.rollout()
            learner.note_inputs(trials[keys.STEPS])
            trials = learner.prepare(trials, state_steps(*lengths))
        kept = [keys.TASK] if learner.reads_tasks else []
        return cut_windows(trials, *lengths, kept, learner.num_following)

    def _collector_of(self, stage: Stage) -> TrialCollector:
        """The collector of a stage; the previous stage's collector is shut down."""
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
                # If the trial is a cut of a longer life, bootstrap from the value of one more step.
                num_extra_steps=int(self.world.continues),
                make_actor=self._learner.make_actor,
                uses_graphs=self._learner.uses_graphs,
            )
            self._stage = stage
        return self._collector

    def _lengths(self, env: TrialEnv) -> tuple[int, int, int]:
        """Env steps of a trial, a window (at most a trial) and a burn-in (at most a window)."""
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
        assert self.trainer is not None, "the trainer is attached before it requests data"
        return self.trainer

    @property
    def _learner(self) -> TrialLearner:
        return cast(TrialLearner, self._trainer.lightning_module)
