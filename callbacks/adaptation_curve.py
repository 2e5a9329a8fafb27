"""Draw and write the adaptation curve after each validation and test."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.image import imsave

from rl2_lightning.callbacks.files import append_rows, keep_rows
from rl2_lightning.callbacks.outcome import Outcome, OutcomeReader, Stage, env_steps_of, outcome_of
from rl2_lightning.callbacks.pictures import log_image
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.plots import adaptation_curve_figure
from rl2_lightning.run_folder import make_parent

TABLE, PICTURE = "adaptation_curve.csv", "adaptation_curve.png"
COLUMNS = ("stage", "iteration", "env_steps", "player", "episode", "mean", "half_width")
MAX_SCALARS = 10  # episodes of a curve that are logged as scalars to TensorBoard


class AdaptationCurveLogger(OutcomeReader):
    """Writes the agent's and the reference players' curves to a CSV, a PNG and TensorBoard.

    Each validation and the test append one row per player and episode to `adaptation_curve.csv`. A
    reference player's rows are written once, at iteration 0. When a run is resumed, the rows of
    iterations that it repeats are dropped; a new run starts a new file. `adaptation_curve.png`
    shows the latest curve. Only rank zero writes.

    Args:
        dirpath: folder of the files.
    """

    def __init__(self, dirpath: str) -> None:
        self._table = Path(dirpath) / TABLE
        self._picture = Path(dirpath) / PICTURE
        self._references_written = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the rows of iterations that will be repeated."""
        if trainer.is_global_zero:
            done = trainer.current_epoch
            keep_rows(
                self._table,
                COLUMNS,
                lambda row: row["stage"] == "validation" and 0 < int(row["iteration"]) <= done,
            )
            self._references_written = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a validation."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._write(
                trainer, pl_module, "validation", with_references=not self._references_written
            )
            self._references_written = True

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the test, replacing an earlier one."""
        if trainer.is_global_zero:
            keep_rows(self._table, COLUMNS, lambda row: row["stage"] != "test")
            self._write(trainer, pl_module, "test", with_references=True)

    def _write(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, with_references: bool
    ) -> None:
        outcome = outcome_of(trainer, pl_module, stage)
        make_parent(self._picture)
        append_rows(self._table, COLUMNS, _rows(outcome, with_references))
        image = render(_figure(outcome))
        imsave(self._picture, image)
        step = env_steps_of(pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics(_scalars(outcome), step)
        log_image(trainer.loggers, f"{stage}/adaptation_curve", image, step)


def _rows(outcome: Outcome, with_references: bool) -> Iterable[list[str]]:
    for player, curve in outcome.players().items():
        is_reference = player in outcome.references
        if is_reference and not with_references:
            continue
        trained = (0, 0) if is_reference else (outcome.iteration, outcome.env_steps)
        start = [outcome.stage, *map(str, trained), player]
        measured = zip(curve.mean.tolist(), curve.half_width.tolist(), strict=True)
        for episode, numbers in enumerate(measured, start=1):
            yield [*start, str(episode), *map(_digits, numbers)]


def _digits(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else ""


def _figure(outcome: Outcome) -> Figure:
    return adaptation_curve_figure(
        {f"agent {name}": curve for name, curve in outcome.agents.items()},
        f"{outcome.stage} on {len(outcome.held_out):,} held-out tasks after "
        f"{outcome.iteration:,} iterations, {outcome.env_steps:,} env steps",
        outcome.references,
        outcome.held_out.reference,
    )


def _scalars(outcome: Outcome) -> Mapping[str, float]:
    scalars = {}
    for name, curve in outcome.agents.items():
        share = outcome.held_out.share_of_reference(curve)
        if share is not None:
            scalars[f"{outcome.stage}/share_of_reference_{name}"] = share
        scalars[f"{outcome.stage}_curve_{name}/trial"] = curve.trial_return
        for episode in _spaced_episodes(curve):
            mean = curve.mean[episode - 1].item()
            if math.isfinite(mean):
                scalars[f"{outcome.stage}_curve_{name}/episode_{episode:03d}"] = mean
    return scalars


def _spaced_episodes(curve: Curve) -> list[int]:
    num_episodes = len(curve.mean)
    if num_episodes <= MAX_SCALARS:
        return list(range(1, num_episodes + 1))
    spaced = np.geomspace(1, num_episodes, MAX_SCALARS).round().astype(int)
    return sorted(set(spaced.tolist()))
