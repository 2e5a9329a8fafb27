"""Checkpoints: validated completely when read, written atomically.

They contain only tensors and plain containers. Nothing that a file names is imported, built or
called.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.checkpoint_content import fault_of, leaves_in, load, require_plain
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.run_folder import make_parent, unfinished

SECTION = "rl2_lightning"
FORMAT = 2


class Checkpoint:
    """The content of a checkpoint.

    Args:
        content: as Lightning writes it, with the section that `describe` adds.
        name: its name in error messages.

    Attributes:
        content: the argument of that name.
    """

    def __init__(self, content: dict[str, Any], name: str) -> None:
        self.content = content
        self._name = name

    @classmethod
    def read(cls, path: str | PathLike[str], field: str | None = None) -> Checkpoint:
        """Read a file and validate all of it.

        Args:
            path: path of the file.
            field: the config field that names the file.

        Raises:
            UserError: the file is damaged, is not a checkpoint of this program, contains non-finite
                numbers, was written by a newer version, or has a setting with an interpolation.
        """
        place = Path(path)
        name = f"{field}={place}" if field else str(place)
        if not place.is_file():
            raise UserError(f"{name} is not a file: give the path of a checkpoint")
        content = load(place, name)
        version = _format_of(content, name)
        if version > FORMAT:
            raise UserError(
                f"{name} has format {version}, this program reads up to {FORMAT}: use a newer one"
            )
        for key, tensor in _learnt(content):
            if not tensor.isfinite().all():
                raise UserError(
                    f"{name} has non-finite numbers in {key}: use an earlier checkpoint"
                )
        require_plain({key: content.get(key) for key in ("hyper_parameters", SECTION)}, name)
        if version < FORMAT:
            # Imported here because only files of earlier formats need the families.
            from rl2_lightning.checkpoint_upgrade import upgrade

            content = upgrade(content, name)
        return cls(content, name)

    @property
    def agent_spec(self) -> Any:
        """The agent's spec, as stored in the file."""
        return self.content[SECTION].get("agent")

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the training, as stored in the file.

        Raises:
            UserError: there is none.
        """
        config = self.content.get("hyper_parameters")
        if not isinstance(config, dict):
            raise UserError(f"{self._name} has no configuration: it is not from this program")
        return config

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        state: dict[str, Tensor] = self.content["state_dict"]
        return state

    def require_optimizer(self) -> None:
        """Check that a training can be resumed from it.

        Raises:
            UserError: the state of the optimiser or of the training loop is missing.
        """
        optimizers, loops = (self.content.get(name) for name in ("optimizer_states", "loops"))
        are_there = isinstance(optimizers, list) and isinstance(loops, dict)
        if not are_there or not optimizers or not loops:
            raise UserError(
                f"{self._name} has only weights and no optimiser state: it cannot "
                "be resumed; start a new training with start_from, or test it"
            )

    def require_clock(self) -> None:
        """Check the counters of the run's clock.

        Raises:
            UserError: a count is negative.
        """
        for key, count in self.state_dict.items():
            if key.startswith("clock.") and not count.is_complex() and (count < 0).any():
                raise UserError(f"{self._name} has {key} below 0: use another checkpoint")

    def require_fitting(self, module: nn.Module, prefix: str = "") -> None:
        """Compare names, shapes and dtypes with those of the module that will load the weights.

        Args:
            module: the module.
            prefix: prefix of its entries in the checkpoint.

        Raises:
            UserError: an entry is missing, unexpected, or of another shape or dtype.
        """
        theirs, ours = self._part(prefix), module.state_dict()
        for key in sorted(ours.keys() ^ theirs.keys()):
            lacks = "lacks" if key in ours else "also has"
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
        """The part of a module's state that this checkpoint can supply, in whole submodules.

        Args:
            module: the module that will load the weights.
            parts: names of the submodules to consider; None for all.

        Returns:
            Parameters and buffers by name, and the names of the submodules that are left out.
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
        """Load the weights into a module.

        Raises:
            UserError: they do not fit; see `require_fitting`.
        """
        self.require_fitting(module, prefix)
        state = self.state_dict
        module.load_state_dict({key: state[prefix + key] for key in module.state_dict()})


def describe(agent_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The section that this program adds to a checkpoint.

    Args:
        agent_spec: the agent's spec as plain data.
    """
    return {SECTION: {"format": FORMAT, "agent": dict(agent_spec)}}


def write_checkpoint(content: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write a checkpoint atomically, so that a killed run keeps the previous one.

    Args:
        content: the content of the checkpoint.
        path: path of the file, which is replaced if it exists.

    Raises:
        NonFiniteLossError: a number is not finite; an existing file is kept.
        OSError: the file cannot be written, e.g. on a full disk, where an existing file is kept, or
            because the folder of the run is gone.
        UserError: a tensor has a form that could not be read back.
    """
    for key, tensor in _learnt(content):
        if fault := fault_of(tensor):
            raise UserError(f"{key} is {fault}, and could not be read back: use another form")
        if not tensor.isfinite().all():
            raise NonFiniteLossError(
                f"{key} is not finite: no checkpoint is written in place of {path}"
            )
    place = Path(path)
    make_parent(place)
    written = unfinished(place)
    try:
        with written.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        written.replace(place)
        _sync_folder(place.parent)
    except (OSError, RuntimeError) as error:
        written.unlink(missing_ok=True)
        # On a full disk PyTorch then closes its archive, which raises a second error.
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError):
            reason = cause.strerror or str(cause)
            raise OSError(cause.errno or errno.EIO, reason, str(path)) from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a loss of power, where the system can."""
    with suppress(OSError):  # some systems cannot open a folder, or cannot sync one
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _learnt(content: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a checkpoint except those of callbacks, where infinity may have a meaning."""
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
