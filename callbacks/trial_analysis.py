"""Write the results of a family's own analysis of test trials, beyond their returns."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imsave

from rl2_lightning.callbacks.evaluation import held_out_of
from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.callbacks.outcome import OutcomeReader, env_steps_of, evaluation_of
from rl2_lightning.callbacks.pictures import log_image
from rl2_lightning.evaluation.findings import main_figures
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.evaluation.images import render
from rl2_lightning.families.analysis import Finding

COLUMNS = ("player", "quantity", "value", "half_width")


class TrialAnalysis(OutcomeReader):
    """Writes the figures of a family's own analysis to a CSV file and the main ones to TensorBoard.

    After the test, `<name>.csv` and, if the analysis has a figure, `<name>.png` are written, with
    the agent's figures and those of reference players. The agent's main figures and the picture are
    also logged to TensorBoard. For families without an analysis nothing is written. Only rank zero
    writes.

    Args:
        dirpath: folder of the files.
    """

    def __init__(self, dirpath: str) -> None:
        self._folder = Path(dirpath)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the figures."""
        held_out = held_out_of(trainer, "test")
        analysis = held_out.analysis
        if not trainer.is_global_zero or analysis is None:
            return
        agents = evaluation_of(trainer).findings
        image = write_findings(held_out, agents, self._folder)
        scalars = {
            f"test/{name}": estimate.value
            for name, estimate in main_figures(analysis, agents).items()
            if math.isfinite(estimate.value)
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics(scalars, env_steps_of(pl_module))
        if image is not None:
            log_image(trainer.loggers, f"test/{analysis.name}", image, env_steps_of(pl_module))


def write_findings(
    held_out: HeldOut, agents: Mapping[str, Finding], folder: Path
) -> np.ndarray | None:
    """Write the results of a family's analysis for an agent and the reference players.

    Args:
        held_out: the tasks that were played, of a family with an analysis.
        agents: results of the agent, by the way it acted.
        folder: folder of the files.

    Returns:
        The picture that was written, `[height, width, 3]`, uint8; None if the analysis has no
        figure.
    """
    analysis = held_out.analysis
    assert analysis is not None
    players = {f"agent_{mode}": found for mode, found in agents.items()}
    players |= held_out.reference_findings()
    write_atomically(folder / f"{analysis.name}.csv", _table(players))
    figure = analysis.figure(
        {name.replace("_", " "): found for name, found in players.items()},
        f"{len(held_out):,} held-out tasks, at most {held_out.num_episodes:,} episodes each",
    )
    if figure is None:
        return None
    image = render(figure)
    imsave(folder / f"{analysis.name}.png", image)
    return image


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
