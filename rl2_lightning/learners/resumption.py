"""Check whether a training can be resumed from a checkpoint."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.errors import UserError


class Resumption(pl.Callback):
    """Compares a checkpoint's state of optimisers and loops to those of the run.

    Lightning loads it unchecked and would fail in the middle of an update.

    Args:
        checkpoint: the checkpoint that the training is resumed from.
        name: its name in error messages.

    Attributes:
        is_done: whether everything has been loaded from the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._content = checkpoint.content
        self._name = name
        self.is_done = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare before Lightning loads anything."""
        fault = optimizers_fault(self._content.get("optimizer_states"), trainer.optimizers)
        fault = fault or loop_fault(self._content, trainer.fit_loop.state_dict())
        if fault is not None:
            raise self.error(fault)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that everything has been loaded, and free the checkpoint."""
        self.is_done = True
        self._content = {}

    def error(self, cause: str) -> UserError:
        """The error to raise for a cause."""
        return UserError(
            f"{self._name} cannot be resumed from: {' '.join(cause.split())}; start a new training "
            "with start_from, or test it"
        )


def loop_fault(content: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """Why the counters of a training loop cannot be resumed from; None if they can.

    Args:
        content: content of the checkpoint.
        ours: state of the run's loop before it starts.
    """
    loops = content.get("loops")
    theirs = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    place = first_unlike(theirs, ours, "loops.fit_loop")
    if place is not None or theirs is None:
        return f"{place} is not a counter of a training loop"
    iterations = content["state_dict"].get("clock.iterations_done")
    epoch = theirs["epoch_progress"]["current"]["processed"]
    if isinstance(iterations, Tensor) and int(iterations) != epoch:
        return f"its clock has {int(iterations)} iterations, but its loop has {epoch}"
    batches = theirs["epoch_loop.batch_progress"]
    if epoch and not batches["is_last_batch"]:
        done = batches["current"]["ready"]
        return f"it was saved within an iteration, after {done} of its minibatches"
    return None


def optimizers_fault(states: Any, optimizers: Sequence[Optimizer]) -> str | None:
    """Why the states of optimisers do not fit those of the run; None if they do.

    Args:
        states: the states, as stored in the checkpoint.
        optimizers: the run's optimisers.
    """
    if not isinstance(states, list) or len(states) != len(optimizers):
        return f"it does not have the states of this run's {len(optimizers)} optimiser(s)"
    for number, (theirs, optimizer) in enumerate(zip(states, optimizers, strict=True)):
        place = f"optimizer_states.{number}"
        ours = optimizer.state_dict()
        if not isinstance(theirs, Mapping) or theirs.keys() != ours.keys():
            return f"{place} is not the state of an optimiser"
        groups = theirs["param_groups"]
        unlike = first_unlike(groups, ours["param_groups"], f"{place}.param_groups")
        if unlike is not None or any(
            one["params"] != group["params"]
            for one, group in zip(groups, ours["param_groups"], strict=True)
        ):
            return f"{unlike or place} does not match this run's parameter groups"
        if (unlike := _unlike_moments(theirs["state"], optimizer, f"{place}.state")) is not None:
            return f"{unlike} does not match the state of this run's optimiser"
    return None


def first_unlike(theirs: Any, ours: Any, name: str) -> str | None:
    """The first place in which plain data has another structure than ours; None if there is none.

    The numbers may differ, but must not be negative.

    Args:
        theirs: any data.
        ours: nested dictionaries, lists, tensors and numbers.
        name: name of the place.
    """
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping) or not ours.keys() <= theirs.keys():
            return name
        parts = [(theirs[key], value, f"{name}.{key}") for key, value in ours.items()]
    elif isinstance(ours, list | tuple):
        if not isinstance(theirs, list | tuple) or len(theirs) != len(ours):
            return name
        pairs = zip(theirs, ours, strict=True)
        parts = [(one, other, f"{name}.{index}") for index, (one, other) in enumerate(pairs)]
    else:
        return None if _is_alike(theirs, ours) else name
    return next((found for part in parts if (found := first_unlike(*part)) is not None), None)


def _is_alike(theirs: Any, ours: Any) -> bool:
    if isinstance(ours, Tensor):
        is_tensor = isinstance(theirs, Tensor)
        return is_tensor and theirs.shape == ours.shape and theirs.dtype == ours.dtype
    if isinstance(ours, bool) or ours is None:
        return theirs is None or isinstance(theirs, bool)
    if isinstance(ours, int | float):
        is_count = isinstance(ours, int) and type(theirs) is int
        return (is_count or type(theirs) in (int, float)) and theirs >= 0
    return type(theirs) is type(ours)


def _unlike_moments(theirs: Any, optimizer: Optimizer, name: str) -> str | None:
    """The first entry of a parameter's state that differs from the optimiser's in name or form."""
    if not isinstance(theirs, Mapping):
        return name
    ours = _after_a_step(optimizer)
    if ours is None:
        return None
    for index, entries in theirs.items():
        place = f"{name}.{index}"
        if index not in ours or not isinstance(entries, Mapping):
            return place
        if entries.keys() != ours[index].keys():
            return place
        if (unlike := first_unlike(entries, ours[index], place)) is not None:
            return unlike
    return None


def _after_a_step(optimizer: Optimizer) -> dict[Any, Any] | None:
    """An optimiser's state after one step; None if `step` fails, e.g. without a closure."""
    rehearsed = copy.deepcopy(optimizer)
    for group in rehearsed.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    try:
        rehearsed.step()
    except (RuntimeError, TypeError):  # some need a closure
        return None
    kept: dict[Any, Any] = rehearsed.state_dict()["state"]
    return kept
