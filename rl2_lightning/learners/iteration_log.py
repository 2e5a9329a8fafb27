"""Log the numbers of an iteration in one go."""

from collections.abc import Mapping

import lightning.pytorch as pl
import torch

STEP = "step"  # what loggers use as their horizontal axis


def write_metrics(trainer: pl.Trainer, metrics: Mapping[str, float]) -> None:
    """Give the numbers of an iteration to the loggers, and to the callbacks that read metrics.

    Does what Lightning does with all that `log` was called with, which costs milliseconds per
    number there: Lightning copies the description of each one, to move it to its device.

    Args:
        trainer: the trainer.
        metrics: the numbers by name, with `STEP`.
    """
    tensors = {name: torch.tensor(value) for name, value in metrics.items()}
    trainer.callback_metrics.update(tensors)
    if not trainer.loggers:
        return
    trainer.logged_metrics.update(tensors)
    shown = {name: value for name, value in metrics.items() if name != STEP}
    for logger in trainer.loggers:
        logger.log_metrics(shown, step=int(metrics[STEP]))
        logger.save()
