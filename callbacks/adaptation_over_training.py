"""Draw how adaptation emerges: the adaptation curves of all validations so far."""

import math
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.image import imsave

from rl2_lightning.callbacks.adaptation_curve import TABLE
from rl2_lightning.callbacks.files import read_rows
from rl2_lightning.callbacks.outcome import OutcomeReader, env_steps_of, outcome_of
from rl2_lightning.callbacks.pictures import log_image
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.held_out import MODES
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.over_training import Validations, over_training_figure
from rl2_lightning.run_folder import make_parent

PICTURE = "adaptation_over_training.png"


class AdaptationOverTraining(OutcomeReader):
    """Writes `adaptation_over_training.png` and logs it to TensorBoard after each validation.

    The picture has the agent's curves of the validations so far, from the second one on. A resumed
    run reads the earlier ones from `adaptation_curve.csv`. Only rank zero writes.

    Args:
        dirpath: folder of the files.
    """

    def __init__(self, dirpath: str) -> None:
        self._folder = Path(dirpath)
        self._curves: dict[str, dict[int, Curve]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the validations of a run that is resumed in its folder."""
        self._curves = {mode: {} for mode in MODES}
        table = self._folder / TABLE
        if trainer.is_global_zero and trainer.current_epoch and table.exists():
            for mode, curves in read_validations(table).agents.items():
                is_kept = [steps for steps in curves if steps <= env_steps_of(pl_module)]
                self._curves[mode] = {steps: curves[steps] for steps in is_kept}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the curves of a validation, and draw all of them."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        outcome = outcome_of(trainer, pl_module, "validation")
        for mode, curve in outcome.agents.items():
            self._curves[mode][outcome.env_steps] = curve
        validations = Validations(self._curves, outcome.references)
        if len(validations) < 2:
            return
        image = render(over_training_figure(validations, title_of(validations)))
        make_parent(self._folder / PICTURE)
        imsave(self._folder / PICTURE, image)
        name = "validation/adaptation_over_training"
        log_image(trainer.loggers, name, image, env_steps_of(pl_module))


def title_of(validations: Validations) -> str:
    """The title of the figure."""
    some = next(iter(validations.agents["greedy"].values()))
    if len(some.mean) == 1:
        return f"return of a trial in {len(validations)} validations"
    return f"return by episode in {len(validations)} validations, from light to dark"


def read_validations(table: Path) -> Validations:
    """The curves of a run's validations, from its `adaptation_curve.csv`.

    Only means and their intervals are stored there; the trial's own numbers are NaN. Without this
    file there are none.
    """
    rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in read_rows(table) if table.exists() else ():
        if row["stage"] == "validation":
            numbers = (_number(row["mean"]), _number(row["half_width"]))
            rows.setdefault((row["player"], int(row["env_steps"])), []).append(numbers)
    curves = {key: _curve(numbers) for key, numbers in rows.items()}
    agents = {mode: f"agent_{mode}" for mode in MODES}
    return Validations(
        {
            mode: {steps: curve for (name, steps), curve in curves.items() if name == player}
            for mode, player in agents.items()
        },
        {name: curve for (name, _), curve in curves.items() if name not in agents.values()},
    )


def _curve(numbers: list[tuple[float, float]]) -> Curve:
    mean, half_width = torch.tensor(numbers, dtype=torch.float64).T
    return Curve(mean, half_width, math.nan, math.nan, 0)


def _number(text: str) -> float:
    return float(text) if text else math.nan
