"""The contract of a memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rl2_lightning.errors import UserError
from rl2_lightning.inputs import select_rows
from rl2_lightning.kinds import known_kinds
from rl2_lightning.settings import Settings

State = tuple[Tensor, ...]

_second_derivatives: ContextVar[bool] = ContextVar("second_derivatives", default=False)


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Within it memories can be differentiated twice, be it more slowly."""
    token = _second_derivatives.set(True)
    try:
        yield
    finally:
        _second_derivatives.reset(token)


def wants_second_derivatives() -> bool:
    """Whether kernels that can be differentiated only once have to stand back."""
    return _second_derivatives.get()


class Memory(nn.Module):
    """What an agent carries from step to step of a trial.

    A memory takes one step, or a whole window at once, and the two agree. A kind of memory is a
    subclass that names its `Settings`, and is built from `input_size` and their fields by name,
    also on the device `meta`: what a checkpoint tells is tried there before memory is taken.

    Attributes:
        Settings: dataclass of what can be set of the memory.
        output_size: H, width of the features.
    """

    Settings: ClassVar[type[Settings]] = Settings
    output_size: int

    @property
    def summary_size(self) -> int:
        """How many of the features, from the first on, tell of all: what a value is made of.

        The others, where there are any, tell of single actions.
        """
        return self.output_size

    @abstractmethod
    def initial_state(self, num: int) -> State:
        """The state with which trials begin.

        Args:
            num: B, how many there are.

        Returns:
            Tensors `[B, ...]`, whose shapes do not change over a trial.
        """

    @abstractmethod
    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """Takes one step.

        Args:
            encoding: `[B, I]`, float.
            state: before the step.

        Returns:
            The features, `[B, H]`, float, and the state after the step.
        """

    @abstractmethod
    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """Takes a window within which no trial begins.

        Args:
            encoding: `[B, T, I]`, float.
            state: before the first step.

        Returns:
            The features of all steps, `[B, T, H]`, float, and the state after the last one.
        """

    def unroll(
        self, encoding: Tensor, state: State, is_init: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Takes a window.

        Args:
            encoding: `[B, T, I]`, float.
            state: before the first step.
            is_init: where trials begin, with an empty memory, `[B, T, 1]`, bool; None for nowhere.

        Returns:
            As `unroll_trial`.
        """
        if is_init is None:
            return self.unroll_trial(encoding, state)
        begins = is_init.any(dim=0).squeeze(-1).nonzero().flatten().tolist()
        parts = []
        for start, end in pairwise(sorted({0, *begins, encoding.shape[1]})):
            state = self.restart(state, is_init[:, start])
            features, state = self.unroll_trial(encoding[:, start:end], state)
            parts.append(features)
        return torch.cat(parts, dim=1), state

    def require_steps(self, num_steps: int) -> None:
        """Tells whether trials fit into a memory that holds only so many steps.

        Args:
            num_steps: T, most env steps of a trial.

        Raises:
            UserError: trials are longer than what the memory can hold.
        """

    def restart(self, state: State, rows: Tensor) -> State:
        """Empties the memory of some rows, `[B, 1]`, bool."""
        empty = self.initial_state(len(rows))
        return tuple(select_rows(rows, new, kept) for new, kept in zip(empty, state, strict=True))

    @classmethod
    def kind(cls) -> str:
        """The name by which checkpoints know this class."""
        return f"{cls.__module__}.{cls.__qualname__}"


def find_memory(kind: Any) -> type[Memory]:
    """The class of a memory that a checkpoint names, among those that are imported.

    A file can name what it likes: nothing is imported for it.

    Raises:
        UserError: there is no such class.
    """
    found = [one for one in known_kinds(Memory) if one.kind() == kind]
    if not found:
        raise UserError(
            f"the checkpoint's memory is {kind!r}, which is not known here: import the module that "
            "defines it first"
        )
    return found[-1]
