"""Write and draw the meta-parameters that a learner learns."""

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.image import imsave

from rl2_lightning.callbacks.files import append_rows, keep_rows, read_rows
from rl2_lightning.callbacks.outcome import env_steps_of
from rl2_lightning.callbacks.pictures import log_image
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.meta_parameters import meta_parameter_figure
from rl2_lightning.learners.meta_gradient import MetaGradient
from rl2_lightning.run_folder import make_parent

STEPS = ("iteration", "env_steps")


class MetaParameterLogger(Callback):
    """Writes what a `MetaGradient` learner has learnt about its own updates.

    After each iteration `meta_parameters.csv` gets a row; at validations and at the end of the
    training the rows are drawn to `meta_parameters.png` and to TensorBoard. When a run is resumed,
    the rows of iterations that it repeats are dropped; a new run starts a new file. With other
    learners nothing is written. Only rank zero writes.

    Args:
        dirpath: folder of the files.
    """

    def __init__(self, dirpath: str) -> None:
        self._table = Path(dirpath) / "meta_parameters.csv"
        self._picture = Path(dirpath) / "meta_parameters.png"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the rows of iterations that will be repeated."""
        if trainer.is_global_zero and isinstance(pl_module, MetaGradient):
            done, columns = trainer.current_epoch, [*STEPS, *pl_module.meta_values()]
            keep_rows(self._table, columns, lambda row: 0 < int(row["iteration"]) <= done)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the values after an iteration."""
        if trainer.is_global_zero and isinstance(pl_module, MetaGradient):
            values = pl_module.meta_values()
            row = [str(trainer.current_epoch + 1), str(env_steps_of(pl_module))]
            make_parent(self._table)
            numbers = [f"{value:.7g}" for value in values.values()]
            append_rows(self._table, [*STEPS, *values], [[*row, *numbers]])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the values so far."""
        self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the values of the whole training."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_drawn = trainer.is_global_zero and isinstance(pl_module, MetaGradient)
        if not is_drawn or not self._table.exists():
            return
        rows = read_rows(self._table)
        if not rows:
            return
        image = render(meta_parameter_figure(*_columns(rows)))
        imsave(self._picture, image)
        name = "train/meta_parameters"
        log_image(trainer.loggers, name, image, env_steps_of(pl_module))


def _columns(rows: list[dict[str, str]]) -> tuple[list[int], Mapping[str, list[float]]]:
    """The env steps, and the values by name."""
    names = [name for name in rows[0] if name not in STEPS]
    values = {name: [float(row[name]) for row in rows] for name in names}
    return [int(row["env_steps"]) for row in rows], values
