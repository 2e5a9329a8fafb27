"""Whether a training can go on where a checkpoint has left it."""

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
    """Holds what a checkpoint tells of optimisers and loops against those of the run.

    Lightning takes it as it is, and fails in the midst of an update.

    Args:
        checkpoint: what the training is resumed from.
        name: what errors call it.

    Attributes:
        is_done: whether all has been taken from the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._content = checkpoint.content
        self._name = name
        self.is_done = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compares, before Lightning takes anything."""
        fault = optimizers_fault(self._content.get("optimizer_states"), trainer.optimizers)
        fault = fault or loop_fault(self._content, trainer.fit_loop.state_dict())
        if fault is not None:
            raise self.error(fault)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes that all was taken."""
        self.is_done = True

    def error(self, cause: str) -> UserError:
        """What a user is told."""
        return UserError(
            f"{self._name} cannot be resumed from: {' '.join(cause.split())}; begin a new training "
            "with start_from, or test it"
        )


def loop_fault(content: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """What of a training loop's counts cannot be gone on with.

    Args:
        content: of the checkpoint.
        ours: state of the run's loop, which has not begun.
    """
    loops = content.get("loops")
    theirs = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    place = first_unlike(theirs, ours, "loops.fit_loop")
    if place is not None or theirs is None:
        return f"{place} is not what a training loop counts"
    iterations = content["state_dict"].get("clock.iterations_done")
    epoch = theirs["epoch_progress"]["current"]["processed"]
    if isinstance(iterations, Tensor) and int(iterations) != epoch:
        return f"its clock tells {int(iterations)} iterations, and its loop {epoch}"
    return None


def optimizers_fault(states: Any, optimizers: Sequence[Optimizer]) -> str | None:
    """What of the states of optimisers does not fit those of the run.

    Args:
        states: as they stand in the checkpoint.
        optimizers: of the run.
    """
    if not isinstance(states, list) or len(states) != len(optimizers):
        return f"it has not the state of {len(optimizers)} optimiser(s), as this run has"
    for number, (theirs, optimizer) in enumerate(zip(states, optimizers, strict=True)):
        place = f"optimizer_states.{number}"
        ours = optimizer.state_dict()
        if not isinstance(theirs, Mapping) or theirs.keys() != ours.keys():
            return f"{place} is no state of an optimiser"
        groups = theirs["param_groups"]
        unlike = first_unlike(groups, ours["param_groups"], f"{place}.param_groups")
        if unlike is not None or any(
            one["params"] != group["params"]
            for one, group in zip(groups, ours["param_groups"], strict=True)
        ):
            return f"{unlike or place} is of other groups of parameters than this run's"
        if (unlike := _unlike_moments(theirs["state"], optimizer, f"{place}.state")) is not None:
            return f"{unlike} is not what this run's optimiser keeps"
    return None


def first_unlike(theirs: Any, ours: Any, name: str) -> str | None:
    """The first place in which plain data has another form than ours; None if there is none.

    Numbers of both may differ; those of theirs are not negative.

    Args:
        theirs: anything.
        ours: nested dictionaries, lists, tensors, numbers.
        name: of the place.
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
    """The first entry of a parameter that an optimiser does not keep, or keeps in another shape."""
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
    """What an optimiser keeps of each parameter; None where a step alone does not tell."""
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
