"""Write the results of a finished run to one JSON file."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.callbacks.outcome import Outcome, OutcomeReader, outcome_of

PACKAGES = ("torch", "lightning", "torchrl", "tensordict", "rl2-lightning")


class Summary(OutcomeReader):
    """Writes `summary.json` at the end of a test, on rank zero.

    It also keeps the total training time over all runs that a checkpoint was resumed in.

    Args:
        dirpath: folder of the file.
        seed: seed of the run, which is written, too.
    """

    def __init__(self, dirpath: str, seed: int) -> None:
        self._path = Path(dirpath) / "summary.json"
        self._seed = seed
        self._seconds = 0.0
        self._started: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The wall-clock seconds of training so far."""
        return {"training_seconds": self._training_seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the time; the test of an earlier checkpoint does not reduce it."""
        self._seconds = max(self._seconds, state_dict["training_seconds"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._seconds, self._started = self._training_seconds(), None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            outcome = outcome_of(trainer, pl_module, "test")
            summary = json.dumps(self._summarise(outcome), indent=2, allow_nan=False)
            write_atomically(self._path, summary + "\n")
            reached = {
                f"test/return_{mode}": curve.trial_return for mode, curve in outcome.agents.items()
            }
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.log_hyperparams(dict(pl_module.hparams), reached)

    def _summarise(self, outcome: Outcome) -> dict[str, Any]:
        held_out = outcome.held_out
        return {
            "agent": {
                name: curve.to_dict() | {"share_of_reference": held_out.share_of_reference(curve)}
                for name, curve in outcome.agents.items()
            },
            "references": {name: curve.to_dict() for name, curve in outcome.references.items()},
            "reference": held_out.reference,
            "num_tasks": len(held_out),
            "num_episodes": held_out.num_episodes,
            "iterations": outcome.iteration,
            "env_steps": outcome.env_steps,
            "training_seconds": round(self._training_seconds(), 3),
            "seed": self._seed,
            "versions": {"python": platform.python_version()}
            | {name: _version(name) for name in PACKAGES},
        }

    def _training_seconds(self) -> float:
        return self._seconds + (0.0 if self._started is None else monotonic() - self._started)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout without installation
        return None
