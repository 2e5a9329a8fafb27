"""What a checkpoint's file holds: plain containers, numbers, words and whole tensors.

A file is a stranger's until it has been looked at: it may be damaged, or made to be.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from rl2_lightning.errors import UserError

DEEPEST = 30  # containers within each other
LARGEST_SIZE = 10**6  # entries, those of what is held twice counted twice
LARGEST_NUMBER = 2**63  # whole numbers of settings are smaller
DTYPES = frozenset(
    {
        torch.bool,
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.complex64, torch.complex128),
    }
)
PLAIN = (type(None), bool, int, float, str)
SUMMARY = "Summary"  # the callback that keeps the time of a training, in seconds
SECONDS = "training_seconds"


def load(place: Path, name: str) -> dict[str, Any]:
    """Reads a file without executing anything that stands in it, and looks at all of it.

    Args:
        place: of the file.
        name: what errors call it.

    Raises:
        UserError: it is damaged, or no checkpoint.
    """
    try:
        _require_whole(place)
        content = torch.load(place, map_location="cpu", weights_only=True)
        tensors = [(key, leaf) for key, leaf in leaves_in(content) if isinstance(leaf, Tensor)]
        if _size(content, {}) > LARGEST_SIZE:
            raise ValueError("it is small in the file, and without end where it is read")
    except Exception as error:  # what a broken file raises depends on the break
        raise UserError(
            f"{name} ({place.stat().st_size} bytes) is not a whole checkpoint of this program: it "
            "may be damaged or cut short; use another one"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    is_state = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in state.items()
    )
    if not is_state or not all(isinstance(key, str) for key in content):
        raise UserError(f"{name} holds no weights: it is no checkpoint of this program")
    for key, tensor in tensors:
        if fault := fault_of(tensor, "cpu"):
            raise UserError(f"{name} has {key}, which is {fault}: use another checkpoint")
    # What else hangs on the containers is not looked at, and not taken.
    callbacks = own_callbacks(content.get("callbacks"))
    return {**content, "state_dict": dict(cast(dict[str, Tensor], state)), "callbacks": callbacks}


def _require_whole(place: Path) -> None:
    with zipfile.ZipFile(place) as archive:
        # PyTorch compresses nothing: what a file takes on the disk it takes in memory.
        if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
            raise zipfile.BadZipFile("it is compressed")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


def fault_of(tensor: Tensor, device: str | None = None) -> str | None:
    """Why a tensor is not to be worked with; None where it is.

    Args:
        tensor: any.
        device: where its numbers have to be; None for anywhere.
    """
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested or tensor.is_quantized:
        return "no plain tensor"
    if tensor.layout != torch.strided or tensor.dtype not in DTYPES:
        return f"a tensor of {tensor.layout} and {tensor.dtype}"
    if device is not None and tensor.device.type != device:
        return f"a tensor without numbers, on {tensor.device}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"of shape {list(tensor.shape)} and shorter than that"
    return None


def leaves_in(node: Any) -> Iterator[tuple[str, Any]]:
    """All that nested containers hold, with dotted names; of what is held twice, the first.

    Raises:
        ValueError: a container holds itself, or there is no end of them.
    """
    return _leaves(node, "", set(), ())


def _leaves(
    node: Any, name: str, seen: set[int], within: tuple[int, ...]
) -> Iterator[tuple[str, Any]]:
    parts = _parts(node)
    if parts is None:
        yield name, node
        return
    if id(node) in within or len(within) == DEEPEST:
        raise ValueError(f"{name} has no end")
    if id(node) in seen:
        return
    seen.add(id(node))
    for key, value in parts:
        yield from _leaves(value, f"{name}.{key}" if name else str(key), seen, (*within, id(node)))


def _size(node: Any, known: dict[int, int]) -> int:
    """How many things nested containers, none of which holds itself, hold where all is read."""
    parts = _parts(node)
    if parts is None:
        return 1
    if id(node) not in known:
        known[id(node)] = 1 + sum(_size(value, known) for _, value in parts)
    return known[id(node)]


def _parts(node: Any) -> Iterable[tuple[Any, Any]] | None:
    """What a container holds, by key or position; None for anything else."""
    if isinstance(node, Mapping):
        return node.items()
    return enumerate(node) if isinstance(node, list | tuple | Set) else None


def require_plain(settings: Mapping[str, Any], name: str) -> None:
    """Looks at settings, before anything else does.

    Interpolations would call OmegaConf's resolvers.

    Args:
        settings: by the part of the file.
        name: what errors call the file.

    Raises:
        UserError: they are more than numbers, words, lists and dictionaries.
    """
    for key, value in _all_within(settings, "", set()):
        if isinstance(value, str) and "${" in value:
            raise UserError(
                f"{name} has {key}={value!r}, and a checkpoint holds plain values: use another one"
            )
        is_plain = type(value) in PLAIN
        if not is_plain or (isinstance(value, int) and abs(value) >= LARGEST_NUMBER):
            kind = "a large number" if is_plain else f"a {type(value).__name__}"
            raise UserError(
                f"{name} has {kind} in {key}, and a checkpoint holds plain values: use another one"
            )


def _all_within(node: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """All values of settings; a container that is met again, and a key that is no word, too."""
    parts = _parts(node) if isinstance(node, dict | list | tuple) else None
    if parts is None or (node and id(node) in seen):
        yield name, node
        return
    seen.add(id(node))
    for key, value in parts:
        if isinstance(node, dict) and not isinstance(key, str):
            yield name, node
        yield from _all_within(value, f"{name}.{key}" if name else str(key), seen)


def own_callbacks(states: Any) -> dict[str, Any]:
    """What callbacks have kept, of those alone whose state is known: a number of seconds.

    Others take paths out of a checkpoint, and delete what is there.

    Args:
        states: as they stand in a file.
    """
    state = states.get(SUMMARY) if isinstance(states, Mapping) else None
    seconds = state.get(SECONDS) if isinstance(state, Mapping) else None
    if not isinstance(seconds, float) or not math.isfinite(seconds) or seconds < 0:
        return {}
    return {SUMMARY: {SECONDS: seconds}}
