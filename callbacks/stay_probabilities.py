"""Tells, at the end of a test, which kind of learner plays the two-step task."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imsave
from tensordict import TensorDictBase

from callbacks.files import write_atomically
from callbacks.outcome import held_out_tasks
from callbacks.pictures import log_image
from rl2_lightning.envs.two_step import TwoStep, choices_of
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.held_out import HeldOutTasks
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.stay_plots import stay_probability_figure
from rl2_lightning.evaluation.stay_probabilities import (
    StayProbabilities,
    StayProbabilityMetric,
    stay_probabilities_of,
)
from rl2_lightning.oracles.two_step import TwoStepPolicy

MODES = ("greedy", "sampled")  # the order of a test's dataloaders
REFERENCES = ("model_free", "model_based")
EFFECTS = ("reward_effect", "interaction", "adjusted_reward_effect", "adjusted_interaction")
COLUMNS = ("player", "quantity", "value", "half_width")


class StayProbabilityAnalysis(Callback):
    """Writes the stay probabilities of the agent and of two reference players after a test.

    They go to `stay_probabilities.csv` and `stay_probabilities.png`, and to TensorBoard. Rank zero
    writes.

    Args:
        dirpath: folder of the files.
    """

    def __init__(self, dirpath: str) -> None:
        self._table = Path(dirpath) / "stay_probabilities.csv"
        self._picture = Path(dirpath) / "stay_probabilities.png"
        self._metrics: dict[str, StayProbabilityMetric] = {}
        self._agents: dict[str, StayProbabilities] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Looks at the family, before anything is trained or tested.

        Raises:
            UserError: it is not the two-step task.
        """
        family = held_out_tasks(trainer, "test").env
        if not isinstance(family, TwoStep):
            raise UserError(
                f"callbacks.stay_probabilities with tasks of {type(family).__name__}: it reads the "
                "two-step task; set callbacks.stay_probabilities=null or env=two_step"
            )

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._metrics = {mode: StayProbabilityMetric().to(pl_module.device) for mode in MODES}

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
        self._metrics[MODES[dataloader_idx]].update(choices_of(batch))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Computes the agent's probabilities over all ranks."""
        self._agents = {mode: metric.compute() for mode, metric in self._metrics.items()}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes and draws them."""
        if not trainer.is_global_zero:
            return
        tasks = held_out_tasks(trainer, "test")
        agents = {f"agent_{mode}": found for mode, found in self._agents.items()}
        players = {**agents, **_references(tasks)}
        write_atomically(self._table, _table(players))
        figure = stay_probability_figure(
            {name.replace("_", " "): found for name, found in players.items()},
            f"two-step task: {len(tasks.tasks):,} held-out tasks, "
            f"at most {tasks.num_episodes:,} episodes each",
        )
        image = render(figure)
        imsave(self._picture, image)
        step = trainer.global_step
        log_image(trainer.loggers, "test/stay_probabilities", image, step)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics(_scalars(self._agents), step)


def _references(tasks: HeldOutTasks) -> dict[str, StayProbabilities]:
    oracles = tasks.env.oracles(tasks.num_episodes)
    players = {name: oracles[name] for name in REFERENCES}
    return {
        name: stay_probabilities_of(player, tasks)
        for name, player in players.items()
        if isinstance(player, TwoStepPolicy)
    }


def _table(players: Mapping[str, StayProbabilities]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for player, found in players.items():
        for quantity, estimate in found.estimates().items():
            writer.writerow([player, quantity, *map(_digits, estimate)])
    return text.getvalue()


def _digits(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else ""


def _scalars(agents: Mapping[str, StayProbabilities]) -> dict[str, float]:
    scalars = {}
    for mode, found in agents.items():
        for effect in EFFECTS:
            value = found.estimates()[effect].value
            if math.isfinite(value):
                scalars[f"test/stay_{effect}_{mode}"] = value
    return scalars
