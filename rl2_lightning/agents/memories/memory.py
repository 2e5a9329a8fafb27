"""The base class of memories."""

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
_features_only: ContextVar[bool] = ContextVar("features_only", default=False)


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Context in which memories can be differentiated twice, at a lower speed."""
    token = _second_derivatives.set(True)
    try:
        # cuDNN's recurrent layers can be differentiated only once.
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        _second_derivatives.reset(token)


@contextmanager
def features_only(is_so: bool = True) -> Iterator[None]:
    """Context in which the state after a window is not used, so memories need not compute it.

    Args:
        is_so: false for a part of a window, whose state the next part begins with.
    """
    token = _features_only.set(is_so)
    try:
        yield
    finally:
        _features_only.reset(token)


def wants_state() -> bool:
    """Whether the state after a window is used."""
    return torch.compiler.is_compiling() or not _features_only.get()


def shared_zeros(
    num: int, *shape: int, device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Zeros, `[num, *shape]`, that are in memory once: the same for all trials.

    They have the default dtype unless another is given, like those of `torch.zeros`.
    """
    return torch.zeros(1, *shape, device=device, dtype=dtype).expand(num, *shape)


def wants_second_derivatives() -> bool:
    """Whether kernels that can be differentiated only once must not be used."""
    return _second_derivatives.get()


def refuse_second_derivatives(kind: str) -> None:
    """Check that the backward pass of a kernel is not itself differentiated.

    PyTorch's `once_differentiable` lets some second derivatives be silently wrong.

    Args:
        kind: the memory, for the message.

    Raises:
        RuntimeError: it is.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"this {kind} is differentiated twice: unroll it in second_derivatives()"
        )


class Memory(nn.Module):
    """The recurrent part of an agent, with a state that lasts for a trial.

    A memory processes one step, or a whole window at once, with the same results. A kind of memory
    is a subclass with its own `Settings`. It is built from `input_size` and the settings' fields as
    keyword arguments, also on the device `meta`, where the agent of a checkpoint is checked before
    memory is allocated.

    Attributes:
        Settings: dataclass of the memory's settings.
        output_size: H, width of the features.
    """

    Settings: ClassVar[type[Settings]] = Settings
    output_size: int

    @property
    def summary_size(self) -> int:
        """The number of leading features that summarise everything; the critic uses only these.

        The others, if any, are about single actions.
        """
        return self.output_size

    @abstractmethod
    def initial_state(self, num: int) -> State:
        """The state at the start of trials.

        Args:
            num: B, number of trials.

        Returns:
            Tensors `[B, ...]`, whose shapes do not change over a trial. Large ones should be those
            of `shared_zeros`.
        """

    @abstractmethod
    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """Process one step.

        Args:
            encoding: `[B, I]`, float.
            state: state before the step.

        Returns:
            The features, `[B, H]`, float, and the state after the step.
        """

    @abstractmethod
    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """Process a window within which no trial begins.

        Args:
            encoding: `[B, T, I]`, float.
            state: state before the first step.

        Returns:
            The features of all steps, `[B, T, H]`, float, and the state after the last one.
        """

    def unroll(
        self, encoding: Tensor, state: State, is_init: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Process a window.

        Args:
            encoding: `[B, T, I]`, float.
            state: state before the first step.
            is_init: where trials begin, with an empty memory, `[B, T, 1]`, bool; None for nowhere.

        Returns:
            The same as `unroll_trial`.
        """
        if is_init is None:
            return self.unroll_trial(encoding, state)
        begins = is_init.any(dim=0).squeeze(-1).nonzero().flatten().tolist()
        parts = []
        for start, end in pairwise(sorted({0, *begins, encoding.shape[1]})):
            state = self.restart(state, is_init[:, start])
            with features_only(end == encoding.shape[1] and not wants_state()):
                features, state = self.unroll_trial(encoding[:, start:end], state)
            parts.append(features)
        return torch.cat(parts, dim=1), state

    def require_steps(self, num_steps: int) -> None:
        """Check that trials fit into a memory that stores a limited number of steps.

        Args:
            num_steps: T, maximum number of env steps of a trial.

        Raises:
            UserError: trials are longer than the memory supports.
        """

    def restart(self, state: State, rows: Tensor) -> State:
        """Reset the state of the given rows, `[B, 1]`, bool."""
        empty = self.initial_state(rows.shape[0])  # `len` is a constant to exporters
        return tuple(select_rows(rows, new, kept) for new, kept in zip(empty, state, strict=True))

    def with_noise(self, state: State, generator: torch.Generator) -> State:
        """The state at the start of trials that are played by sampling.

        Most memories draw nothing, and their state stays the same.

        Args:
            state: as `initial_state` returns it.
            generator: source of the noise, on the device of the state.
        """
        return state

    @classmethod
    def kind(cls) -> str:
        """The name of this class in checkpoints."""
        return f"{cls.__module__}.{cls.__qualname__}"


def find_memory(kind: Any) -> type[Memory]:
    """The memory class that a checkpoint names, searched among the imported ones.

    A file can name anything, so nothing is imported for it.

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
