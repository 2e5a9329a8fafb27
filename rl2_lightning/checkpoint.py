"""Checkpoints: read whole and looked at, written whole or not at all.

They hold tensors and plain containers only. Nothing that a file names is imported, built or called.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.checkpoint_content import fault_of, leaves_in, load, require_plain
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
        content = load(place, name)
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
        require_plain({key: content.get(key) for key in ("hyper_parameters", SECTION)}, name)
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
        optimizers, loops = (self.content.get(name) for name in ("optimizer_states", "loops"))
        are_there = isinstance(optimizers, list) and isinstance(loops, dict)
        if not are_there or not optimizers or not loops:
            raise UserError(
                f"{self._name} holds weights alone, without the state of an optimiser: it cannot "
                "be resumed from; begin a new training with start_from, or test it"
            )

    def require_clock(self) -> None:
        """Looks at what the run's clock has counted.

        Raises:
            UserError: a count is negative.
        """
        for key, count in self.state_dict.items():
            if key.startswith("clock.") and not count.is_complex() and (count < 0).any():
                raise UserError(f"{self._name} has {key} below 0: use another checkpoint")

    def require_fitting(self, module: nn.Module, prefix: str = "") -> None:
        """Compares names, shapes and dtypes with a module that is to take the weights.

        Args:
            module: the module.
            prefix: of its entries in the checkpoint.

        Raises:
            UserError: one is missing, or another.
        """
        theirs, ours = self._part(prefix), module.state_dict()
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

    def fitting_state(
        self, module: nn.Module, parts: Collection[str] | None = None
    ) -> tuple[dict[str, Tensor], list[str]]:
        """What of a module's state can be had from here, each of its parts whole or not at all.

        Args:
            module: what is to take the weights.
            parts: names of its parts; None for all.

        Returns:
            Parameters and buffers by name, and the names of the parts that do not fit.
        """
        ours: dict[str, dict[str, Tensor]] = {}
        for key, tensor in module.state_dict().items():
            part, dot, rest = key.partition(".")
            ours.setdefault(part + dot, {})[rest] = tensor
        state, left_out = {}, []
        for prefix, entries in ours.items():
            name, theirs = prefix.rstrip("."), self._part(prefix)
            if (parts is None or name in parts) and _are_alike(entries, theirs):
                state.update({prefix + key: tensor for key, tensor in theirs.items()})
            else:
                left_out.append(name)
        return state, left_out

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.state_dict.items()
            if key.startswith(prefix)
        }

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
        OSError: it cannot be written, as on a full disk; what is there stays.
        UserError: a tensor is of a form that is not read again.
    """
    for key, tensor in _learnt(content):
        if fault := fault_of(tensor):
            raise UserError(f"{key} is {fault}, and could not be read again: give it another form")
        if not tensor.isfinite().all():
            raise NonFiniteLossError(
                f"{key} is not finite: no checkpoint is written in place of {path}"
            )
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(place)
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        # Where a disk is full PyTorch closes its archive, and fails at that once more.
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError):
            reason = cause.strerror or str(cause)
            raise OSError(cause.errno or errno.EIO, reason, str(path)) from error
        raise


def _learnt(content: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a checkpoint but those of callbacks, to which infinity may mean something."""
    looked_at = {key: value for key, value in content.items() if key != "callbacks"}
    return ((name, leaf) for name, leaf in leaves_in(looked_at) if isinstance(leaf, Tensor))


def _are_alike(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether names, shapes and dtypes are the same."""
    return ours.keys() == theirs.keys() and all(
        theirs[key].shape == tensor.shape and theirs[key].dtype == tensor.dtype
        for key, tensor in ours.items()
    )


def _format_of(content: Mapping[str, Any], name: str) -> int:
    if SECTION not in content:
        return 1
    section = content[SECTION]
    version = section.get("format") if isinstance(section, Mapping) else None
    if type(version) is not int:
        raise UserError(f"{name} has a damaged section {SECTION}: use another checkpoint")
    return version
