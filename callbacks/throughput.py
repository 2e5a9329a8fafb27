"""Measure how fast trials are collected and optimised on."""

from time import perf_counter
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from rl2_lightning.callbacks.outcome import env_steps_of
from rl2_lightning.learners.learner import Learner


class Throughput(Callback):
    """Logs env steps per second of collecting and of optimising, over all ranks.

    Collecting includes the advantages; optimising excludes validations.
    """

    def __init__(self) -> None:
        self._env_steps = 0
        self._mark = 0.0
        self._collecting = 0.0
        self._optimising = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the collecting."""
        self._env_steps = env_steps_of(pl_module)
        self._collecting = self._optimising = 0.0
        self._lap()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the collecting at the first minibatch."""
        if batch_idx == 0:
            self._collecting = self._lap()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._optimising += self._lap()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock."""
        self._lap()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rates of the iteration."""
        self._optimising += self._lap()
        steps = float(env_steps_of(pl_module) - self._env_steps)
        cast(Learner, pl_module).log_iteration(
            {
                "collect/steps_per_second": steps / self._collecting,
                "optimise/steps_per_second": steps / self._optimising,
                "train/steps_per_second": steps / (self._collecting + self._optimising),
            }
        )

    def _lap(self) -> float:
        """The seconds since the last call, after synchronising with the device."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = perf_counter()
        lap, self._mark = now - self._mark, now
        return lap
