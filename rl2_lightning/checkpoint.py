"""Checkpoints: read whole and looked at, written whole or not at all.

They hold tensors and plain containers only. Nothing that a file names is imported, built or called.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.errors import NonFiniteLossError, UserError

SECTION = "rl2_lightning"
FORMAT = 2


class Checkpoint:
    """What a checkpoint holds.

    Args:
        content: as Lightning writes it, with what `describe` adds.
        name: what errors call it.

    Attributes:
        content: the same.
    """

    def __init__(self, content: dict[str, Any], name: str) -> None:
        self.content = content
        self._name = name

    @classmethod
    def read(cls, path: str | PathLike[str], field: str | None = None) -> Checkpoint:
        """Reads a file, and looks at all of it.

        Args:
            path: of the file.
            field: of the configuration, that names it.

        Raises:
            UserError: it is damaged or no checkpoint of this program, holds numbers that are not
                finite, or was written by a newer version; or a setting refers to something.
        """
        place = Path(path)
        name = f"{field}={place}" if field else str(place)
        if not place.is_file():
            raise UserError(f"{name} is no file: give the path of a checkpoint")
        content = _load(place, name)
        version = _format_of(content, name)
        if version > FORMAT:
            raise UserError(
                f"{name} has format {version}, this program reads up to {FORMAT}: use a newer one"
            )
        for key, tensor in _learnt(content):
            if not tensor.isfinite().all():
                raise UserError(
                    f"{name} holds numbers that are not finite in {key}: use an earlier checkpoint"
                )
        _require_no_references(content, name)
        if version < FORMAT:
            # Late: only files of earlier versions need the families.
            from rl2_lightning.checkpoint_upgrade import upgrade

            content = upgrade(content, name)
        return cls(content, name)

    @property
    def agent_spec(self) -> Any:
        """What the agent is built from, as it stands in the file."""
        return self.content[SECTION].get("agent")

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the training, as it stands in the file.

        Raises:
            UserError: there is none.
        """
        config = self.content.get("hyper_parameters")
        if not isinstance(config, dict):
            raise UserError(f"{self._name} tells no configuration: it is of another program")
        return config

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        state: dict[str, Tensor] = self.content["state_dict"]
        return state

    def require_optimizer(self) -> None:
        """Looks whether a training can be resumed from it.

        Raises:
            UserError: the state of the optimiser or of the training loop is missing.
        """
        if not self.content.get("optimizer_states") or not self.content.get("loops"):
            raise UserError(
                f"{self._name} holds weights alone, without the state of an optimiser: it cannot "
                "be resumed from; begin a new training with start_from, or test it"
            )

    def require_fitting(self, module: nn.Module, prefix: str = "") -> None:
        """Compares names, shapes and dtypes with a module that is to take the weights.

        Args:
            module: the module.
            prefix: of its entries in the checkpoint.

        Raises:
            UserError: one is missing, or another.
        """
        theirs = {
            key.removeprefix(prefix): tensor
            for key, tensor in self.state_dict.items()
            if key.startswith(prefix)
        }
        ours = module.state_dict()
        for key in sorted(ours.keys() ^ theirs.keys()):
            lacks = "lacks" if key in ours else "has besides"
            raise UserError(
                f"{self._name} {lacks} the weights {prefix}{key}: it was trained with other "
                "settings of agent, memory or learner"
            )
        for key, tensor in ours.items():
            if theirs[key].shape != tensor.shape or theirs[key].dtype != tensor.dtype:
                raise UserError(
                    f"{self._name} has {prefix}{key} of shape {list(theirs[key].shape)}, where "
                    f"this run has {list(tensor.shape)}: it was trained on observations, actions "
                    "or tasks of another size; change only fields of env that leave these alone"
                )

    def load_into(self, module: nn.Module, prefix: str = "") -> None:
        """Gives a module its weights.

        Raises:
            UserError: they do not fit; see `require_fitting`.
        """
        self.require_fitting(module, prefix)
        state = self.state_dict
        module.load_state_dict({key: state[prefix + key] for key in module.state_dict()})


def describe(agent_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The section that this program adds to a checkpoint.

    Args:
        agent_spec: what the agent is built from, as plain data.
    """
    return {SECTION: {"format": FORMAT, "agent": dict(agent_spec)}}


def write_checkpoint(content: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Writes a checkpoint beside its place and moves it there: a killed run keeps the one before.

    Args:
        content: what it holds.
        path: of the file, which is replaced if it exists.

    Raises:
        NonFiniteLossError: a number is not finite; what is there stays.
    """
    for key, tensor in _learnt(content):
        if not tensor.isfinite().all():
            raise NonFiniteLossError(
                f"{key} is not finite: no checkpoint is written in place of {path}"
            )
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}.unfinished")
    with unfinished.open("wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(place)


def _learnt(content: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a checkpoint but those of callbacks, to which infinity may mean something."""
    looked_at = {key: value for key, value in content.items() if key != "callbacks"}
    return ((name, leaf) for name, leaf in leaves_in(looked_at) if isinstance(leaf, Tensor))


def leaves_in(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All that nested containers hold, with dotted names."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves_in(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from leaves_in(value, f"{name}.{index}" if name else str(index))
    else:
        yield name, node


def _require_no_references(content: Mapping[str, Any], name: str) -> None:
    """Looks for interpolations: where settings are read, they would call OmegaConf's resolvers."""
    settings = {key: content.get(key) for key in ("hyper_parameters", SECTION)}
    for key, leaf in leaves_in(settings):
        if isinstance(leaf, str) and "${" in leaf:
            raise UserError(
                f"{name} has {key}={leaf!r}, and a checkpoint holds plain values: use another one"
            )


def _load(place: Path, name: str) -> dict[str, Any]:
    """Reads the file without executing anything that stands in it."""
    try:
        with zipfile.ZipFile(place) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        content = torch.load(place, map_location="cpu", weights_only=True)
        for _ in leaves_in(content):  # there is no end of them where a container holds itself
            pass
    except Exception as error:  # what a broken file raises depends on the break
        raise UserError(
            f"{name} ({place.stat().st_size} bytes) is not a whole checkpoint of this program: it "
            "may be damaged or cut short; use another one"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    is_state = isinstance(state, dict) and all(isinstance(one, Tensor) for one in state.values())
    if not is_state:
        raise UserError(f"{name} holds no weights: it is no checkpoint of this program")
    return content


def _format_of(content: Mapping[str, Any], name: str) -> int:
    if SECTION not in content:
        return 1
    section = content[SECTION]
    version = section.get("format") if isinstance(section, Mapping) else None
    if type(version) is not int:
        raise UserError(f"{name} has a damaged section {SECTION}: use another checkpoint")
    return version
