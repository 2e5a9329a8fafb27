"""Checkpoints that are whole or not there."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place first, so that a killed run keeps the one before.

    Lightning itself writes to the system's folder for temporary files; from another file system
    a file is not moved into its place, but copied.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Writes the checkpoint, in place of an earlier one."""
        place = Path(path)
        unfinished = place.with_name(f".{place.name}.unfinished")
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        unfinished.replace(place)
