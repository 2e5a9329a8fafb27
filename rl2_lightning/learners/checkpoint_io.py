"""Lightning's checkpoints, read and written by `rl2_lightning.checkpoint`."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from rl2_lightning.checkpoint import Checkpoint, write_checkpoint
from rl2_lightning.errors import UserError


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints written atomically and with finite values only; see `rl2_lightning.checkpoint`.

    Lightning's own writer goes through the system's temporary folder; on another file system the
    file is then copied into place instead of moved. It also deletes any path that it is given.
    """

    def __init__(self) -> None:
        self._written: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Write the checkpoint, replacing an earlier one."""
        write_checkpoint(checkpoint, path)
        self._written.add(Path(path).resolve())

    def load_checkpoint(
        self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint into CPU memory; Lightning moves what it loads."""
        return Checkpoint.read(path).content

    def remove_checkpoint(self, path: _PATH) -> None:
        """Remove a checkpoint that this run has written.

        Raises:
            UserError: this run has not written it.
        """
        place = Path(path).resolve()
        if place not in self._written:
            raise UserError(f"{path} is not a checkpoint of this run: it is not removed")
        place.unlink(missing_ok=True)
        self._written.remove(place)
