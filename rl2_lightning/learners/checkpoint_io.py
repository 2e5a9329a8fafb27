"""Lightning's checkpoints, read and written by this program's rules."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from rl2_lightning.checkpoint import Checkpoint, write_checkpoint
from rl2_lightning.errors import UserError


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there, and never poisoned; see `rl2_lightning.checkpoint`.

    Lightning itself writes to the system's folder for temporary files; from another file system
    a file is not moved into its place, but copied. It also removes whatever it is told to.
    """

    def __init__(self) -> None:
        self._written: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Writes the checkpoint, in place of an earlier one."""
        write_checkpoint(checkpoint, path)
        self._written.add(Path(path).resolve())

    def load_checkpoint(
        self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint into the CPU's memory; Lightning moves what it takes."""
        return Checkpoint.read(path).content

    def remove_checkpoint(self, path: _PATH) -> None:
        """Removes a checkpoint that this run has written.

        Raises:
            UserError: it is anything else.
        """
        place = Path(path).resolve()
        if place not in self._written:
            raise UserError(f"{path} is no checkpoint of this run: it is not removed")
        place.unlink(missing_ok=True)
        self._written.remove(place)
