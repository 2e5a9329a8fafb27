"""Copies of a replay buffer on disk, which checkpoints name."""

from __future__ import annotations

import math
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning.errors import UserError

PREFIX = "replay-"


class ReplayFiles:
    """Writes copies of a buffer to a folder, and reads them.

    A copy is a folder with one file of plain bytes for each entry. Shapes and types are those of
    the run that reads it, so a file can contain wrong numbers, but nothing else. The two latest
    copies of a process are kept: while a checkpoint is written, the one before is still valid.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._run = secrets.token_hex(4)
        self._written: list[Path] = []

    def write(self, windows: TensorDictBase, number: int) -> str:
        """Write a copy.

        Args:
            windows: what the buffer holds, `[N]`.
            number: number of windows that it has been given; the same for the same content.

        Returns:
            The name of the copy.
        """
        path = self._folder / f"{PREFIX}{self._run}-{number}"
        if path in self._written:
            return path.name
        while len(self._written) > 1:
            shutil.rmtree(self._written.pop(0), ignore_errors=True)
        unfinished = path.with_suffix(".part")
        unfinished.mkdir(parents=True)
        for index, (_, entry) in enumerate(_entries(windows)):
            as_bytes = entry.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            as_bytes.numpy().tofile(unfinished / f"{index}.bytes")
        unfinished.rename(path)
        self._written.append(path)
        return path.name

    def read(self, name: str, num: int, like: TensorDictBase) -> TensorDict:
        """Map a copy into memory.

        Args:
            name: the name of the copy.
            num: N, number of windows in it.
            like: windows with the same entries.

        Returns:
            The windows, `[N]`.

        Raises:
            UserError: there is no such copy, or its files have other sizes.
        """
        path = self._folder / name
        if Path(name).name != name or not name.startswith(PREFIX) or not path.is_dir():
            raise UserError(
                f"the checkpoint's replay buffer, {name}, is not in "
                f"learner.replay.folder={self._folder}: give the folder that it was written to, "
                "or start a new training with start_from"
            )
        windows: TensorDict = like[:1].expand(num).clone(False)
        for index, (key, entry) in enumerate(_entries(like)):
            file = path / f"{index}.bytes"
            shape = (num, *entry.shape[1:])
            size = math.prod(shape) * entry.element_size()
            if not file.is_file() or file.stat().st_size != size:
                raise UserError(
                    f"{file} of the checkpoint's replay buffer does not have {size} bytes: start a "
                    "new training with start_from"
                )
            flat = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)
            windows.set(key, flat.view(entry.dtype).view(shape))
        return windows


def _entries(windows: TensorDictBase) -> list[tuple[Any, Tensor]]:
    """The entries of windows, in an order that depends on their names alone."""
    return sorted(windows.items(True, True), key=lambda item: str(item[0]))
