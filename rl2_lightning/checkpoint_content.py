"""Validate a checkpoint file: plain containers, numbers, strings and complete tensors.

A file is untrusted until it has been checked: it may be damaged or malicious.
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

DEEPEST = 30  # nested containers
LARGEST_SIZE = 10**6  # entries; a container that is referenced twice counts twice
LARGEST_NUMBER = 2**63  # integers in settings are smaller
DTYPES = frozenset(
    {
        torch.bool,
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.complex64, torch.complex128),
    }
)
PLAIN = (type(None), bool, int, float, str)
SUMMARY = "Summary"  # the callback that stores the training time, in seconds
SECONDS = "training_seconds"


def load(place: Path, name: str) -> dict[str, Any]:
    """Read a file without executing anything in it, and validate all of it.

    Args:
        place: path of the file.
        name: its name in error messages.

    Raises:
        UserError: it is damaged or not a checkpoint.
    """
    try:
        _require_whole(place)
        content = torch.load(place, map_location="cpu", weights_only=True)
        tensors = [(key, leaf) for key, leaf in leaves_in(content) if isinstance(leaf, Tensor)]
        if _size(content, {}) > LARGEST_SIZE:
            raise ValueError("it is small in the file, but too large once expanded")
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(
            f"{name} ({place.stat().st_size} bytes) is not a whole checkpoint of this program: it "
            "may be damaged or cut short; use another one"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    is_state = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in state.items()
    )
    if not is_state or not all(isinstance(key, str) for key in content):
        raise UserError(f"{name} has no weights: it is not a checkpoint of this program")
    for key, tensor in tensors:
        if fault := fault_of(tensor, "cpu"):
            raise UserError(f"{name} has {key}, which is {fault}: use another checkpoint")
    # Attributes of the containers have not been checked and are dropped.
    callbacks = own_callbacks(content.get("callbacks"))
    return {**content, "state_dict": dict(cast(dict[str, Tensor], state)), "callbacks": callbacks}


def _require_whole(place: Path) -> None:
    with zipfile.ZipFile(place) as archive:
        # PyTorch does not compress: a file needs as much memory as disk space.
        if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
            raise zipfile.BadZipFile("it is compressed")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


def fault_of(tensor: Tensor, device: str | None = None) -> str | None:
    """Why a tensor is not usable; None if it is.

    Args:
        tensor: any tensor.
        device: the device type on which its data has to be; None for any.
    """
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested or tensor.is_quantized:
        return "not a plain tensor"
    if tensor.layout != torch.strided or tensor.dtype not in DTYPES:
        return f"a tensor of {tensor.layout} and {tensor.dtype}"
    if device is not None and tensor.device.type != device:
        return f"a tensor without data, on {tensor.device}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"of shape {list(tensor.shape)} but has too little data for it"
    return None


def leaves_in(node: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of nested containers, with dotted names; each container is visited once.

    Raises:
        ValueError: a container contains itself, or they are nested too deeply.
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
        raise ValueError(f"{name} contains itself or is nested too deeply")
    if id(node) in seen:
        return
    seen.add(id(node))
    for key, value in parts:
        yield from _leaves(value, f"{name}.{key}" if name else str(key), seen, (*within, id(node)))


def _size(node: Any, known: dict[int, int]) -> int:
    """The number of entries of nested, acyclic containers once shared ones are expanded."""
    parts = _parts(node)
    if parts is None:
        return 1
    if id(node) not in known:
        known[id(node)] = 1 + sum(_size(value, known) for _, value in parts)
    return known[id(node)]


def _parts(node: Any) -> Iterable[tuple[Any, Any]] | None:
    """The entries of a container, by key or position; None for anything else."""
    if isinstance(node, Mapping):
        return node.items()
    return enumerate(node) if isinstance(node, list | tuple | Set) else None


def require_plain(settings: Mapping[str, Any], name: str) -> None:
    """Check that settings are plain values, before anything else reads them.

    Interpolations would call OmegaConf's resolvers.

    Args:
        settings: the settings, by section of the file.
        name: the file's name in error messages.

    Raises:
        UserError: they contain more than numbers, strings, lists and dictionaries.
    """
    for key, value in _all_within(settings, "", set()):
        if isinstance(value, str) and "${" in value:
            raise UserError(
                f"{name} has {key}={value!r}, which is not a plain value: use another checkpoint"
            )
        is_plain = type(value) in PLAIN
        if not is_plain or (isinstance(value, int) and abs(value) >= LARGEST_NUMBER):
            kind = "a large number" if is_plain else f"a {type(value).__name__}"
            raise UserError(
                f"{name} has {kind} in {key}, which is not supported: use another checkpoint"
            )


def _all_within(node: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """All values of settings; also containers met a second time and those with non-string keys."""
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
    """The stored states of callbacks, reduced to the one that is known: a number of seconds.

    Other callbacks read paths from a checkpoint and delete the files there.

    Args:
        states: the states of all callbacks, as stored in a file.
    """
    state = states.get(SUMMARY) if isinstance(states, Mapping) else None
    seconds = state.get(SECONDS) if isinstance(state, Mapping) else None
    if not isinstance(seconds, float) or not math.isfinite(seconds) or seconds < 0:
        return {}
    return {SUMMARY: {SECONDS: seconds}}
