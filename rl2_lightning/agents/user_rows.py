"""What an agent remembers of each of many users, as rows of bytes."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

from rl2_lightning.errors import UserError

FORMAT = 1  # of saved memories
MAGIC = b"RL2U"
HEADER = struct.Struct("<4sH16sI")  # magic, format, identity of the agent, checksum of the row
ALIGNMENT = 8  # bytes; of numbers of any dtype
FIRST_CAPACITY = 16


class UserRows:
    """Tensors of many users, in which a user has the same row; a row is all that has to be saved.

    Args:
        first: the tensors of a new user by name, `[1, ...]` each.

    Attributes:
        columns: the tensors by name, `[C, ...]` each, C at least the number of users; they share
            the memory of the rows.
        size: of a row, in bytes.
    """

    def __init__(self, first: Mapping[str, Tensor]) -> None:
        self._first = dict(first)
        sizes = {name: one[0].numel() * one.element_size() for name, one in first.items()}
        padded = [size + -size % ALIGNMENT for size in sizes.values()]
        starts = accumulate(padded, initial=0)
        self._spans = {
            name: slice(start, start + size)
            for (name, size), start in zip(sizes.items(), starts, strict=False)
        }
        self.size = sum(padded)
        device = next(iter(first.values())).device
        self._bytes = torch.zeros(FIRST_CAPACITY, self.size, dtype=torch.uint8, device=device)
        self.columns = self._columns_of(self._bytes)

    def require_capacity(self, num_rows: int) -> None:
        """Have at least so many rows, with twice as many at each growth."""
        missing = num_rows - len(self._bytes)
        if missing > 0:
            more = self._bytes.new_zeros(max(missing, len(self._bytes)), self.size)
            self._bytes = torch.cat([self._bytes, more])
            self.columns = self._columns_of(self._bytes)

    def write(self, rows: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Replace entries of rows `[B]`, int64, by tensors `[B, ...]`."""
        for name, tensor in tensors.items():
            self.columns[name][rows] = tensor

    def read_bytes(self, row: int) -> bytes:
        """A row."""
        return self._bytes[row].cpu().numpy().tobytes()

    def write_bytes(self, row: int, data: bytes) -> None:
        """Replace a row by another one of the same size."""
        self._bytes[row] = _as_tensor(data).to(self._bytes.device)

    def tensors_of(self, data: bytes) -> dict[str, Tensor]:
        """The tensors of the bytes of a row, `[1, ...]` each."""
        return self._columns_of(_as_tensor(data).to(self._bytes.device).unsqueeze(0))

    def _columns_of(self, rows: Tensor) -> dict[str, Tensor]:
        """The tensors that rows `[C, size]` consist of, which share their memory."""
        return {
            name: rows[:, self._spans[name]].view(like.dtype).view(len(rows), *like.shape[1:])
            for name, like in self._first.items()
        }


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def identity_of(spec: Mapping[str, object], module: nn.Module) -> bytes:
    """A digest of an agent's spec and weights, 16 bytes.

    A memory means something only to the weights that have written it.
    """
    digest = hashlib.sha256(json.dumps([sys.byteorder, spec], sort_keys=True).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()[:16]


def sealed(row: bytes, identity: bytes) -> bytes:
    """A row with the header of a saved memory."""
    return HEADER.pack(MAGIC, FORMAT, identity, zlib.crc32(row)) + row


def unsealed(data: bytes, identity: bytes, size: int, name: str) -> bytes:
    """The row of a saved memory.

    Args:
        data: output of `sealed`; anything else is refused.
        identity: of the agent that reads it.
        size: of the row, in bytes.
        name: of the user, for error messages.

    Raises:
        UserError: it is something else, of another format or agent, or damaged.
    """
    said = f"the bytes given for {name}"
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UserError(f"{said} are of type {type(data).__name__}: give what save has returned")
    data = bytes(data)
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise UserError(f"{said} are no saved memory: give what save has returned")
    _, version, of_agent, checksum = HEADER.unpack_from(data)
    if version != FORMAT:
        raise UserError(
            f"{said} have format {version}, this program reads {FORMAT}: use the version of the "
            "program that has saved them, or start the user anew"
        )
    if of_agent != identity:
        raise UserError(
            f"{said} are the memory of another agent: load that one, or start the user anew"
        )
    row = data[HEADER.size :]
    if len(row) != size or zlib.crc32(row) != checksum:
        raise UserError(
            f"{said} are damaged or cut short ({len(data)} bytes): use another copy, or start the "
            "user anew"
        )
    return row
