"""What a family's own analysis says of the trials that a test plays, beyond their returns."""

import csv
import io
import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensordict import TensorDictBase
from torchmetrics import Metric

from callbacks.files import write_atomically
from callbacks.outcome import held_out_tasks
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.held_out import HeldOutTasks
from rl2_lightning.evaluation.means import Estimate

MODES = ("greedy", "sampled")  # the order of a test's dataloaders
COLUMNS = ("player", "quantity", "value", "half_width")


class Finding(Protocol):
    """What an analysis has found of a player."""

    @abstractmethod
    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""


class TrialAnalysis(Callback):
    """Accumulates a family's figures over a test, and writes them to `<field>.csv` at its end.

    Those that matter go to TensorBoard, too. Rank zero writes.

    Args:
        dirpath: folder of the file.

    Attributes:
        field: the analysis' place among the callbacks of a config.
        prefix: of the names in TensorBoard, and of `measures`.
        family: whose trials it reads.
        env: the family's config.
        main_figures: names of the figures that matter; None for all.
    """

    field: ClassVar[str]
    prefix: ClassVar[str]
    family: ClassVar[type[TaskEnv]]
    env: ClassVar[str]
    main_figures: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, dirpath: str) -> None:
        self.folder = Path(dirpath)
        self._metrics: dict[str, Metric] = {}
        self._agents: dict[str, Finding] = {}

    @abstractmethod
    def make_metric(self, tasks: HeldOutTasks) -> Metric:
        """A metric for the trials of some tasks; it computes a `Finding`."""

    @abstractmethod
    def add(self, metric: Any, trials: TensorDictBase) -> None:
        """Adds played trials, `[B, T]`, to what `make_metric` has made."""

    def references(self, tasks: HeldOutTasks) -> Mapping[str, Finding]:
        """The same figures of reference players, by name."""
        return {}

    @property
    def measures(self) -> dict[str, Estimate]:
        """The figures that matter, of the last test's agent in each mode."""
        return {
            f"{self.prefix}_{name}_{mode}": found.estimates()[name]
            for mode, found in self._agents.items()
            for name in self.main_figures or found.estimates()
        }

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Looks at the family, before anything is trained or tested.

        Raises:
            UserError: it is another one.
        """
        given = held_out_tasks(trainer, "test").env
        if not isinstance(given, self.family):
            raise UserError(
                f"callbacks.{self.field} with tasks of {type(given).__name__}: it reads those of "
                f"{self.family.__name__}; set callbacks.{self.field}=null or env={self.env}"
            )

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        tasks = held_out_tasks(trainer, "test")
        self._metrics = {mode: self.make_metric(tasks).to(pl_module.device) for mode in MODES}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TensorDictBase,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds the trials that were played, `[B, T]`."""
        self.add(self._metrics[MODES[dataloader_idx]], batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Computes the agent's figures over all ranks."""
        self._agents = {mode: metric.compute() for mode, metric in self._metrics.items()}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes them, beside those of the reference players."""
        if not trainer.is_global_zero:
            return
        tasks = held_out_tasks(trainer, "test")
        agents = {f"agent_{mode}": found for mode, found in self._agents.items()}
        players = {**agents, **self.references(tasks)}
        write_atomically(self.folder / f"{self.field}.csv", _table(players))
        scalars = {
            f"test/{name}": estimate.value
            for name, estimate in self.measures.items()
            if math.isfinite(estimate.value)
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics(scalars, trainer.global_step)
        self.draw(trainer, tasks, players)

    def draw(self, trainer: Trainer, tasks: HeldOutTasks, players: Mapping[str, Any]) -> None:
        """Draws the players' findings, where there is something to be seen."""


def _table(players: Mapping[str, Finding]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for player, found in players.items():
        for quantity, estimate in found.estimates().items():
            writer.writerow([player, quantity, *map(_digits, estimate)])
    return text.getvalue()


def _digits(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else ""
