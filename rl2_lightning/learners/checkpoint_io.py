"""Lightning's checkpoints, read and written by this program's rules."""

from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from rl2_lightning.checkpoint import Checkpoint, write_checkpoint


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there, and never poisoned; see `rl2_lightning.checkpoint`.

    Lightning itself writes to the system's folder for temporary files; from another file system
    a file is not moved into its place, but copied.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Writes the checkpoint, in place of an earlier one."""
        write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint into the CPU's memory; Lightning moves what it takes."""
        return Checkpoint.read(path).content
