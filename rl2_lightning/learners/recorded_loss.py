"""The loss of a minibatch and its gradients, as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning.cuda_graphs import Recorded

Loss = Callable[[TensorDictBase], tuple[Tensor, Mapping[str, Tensor]]]


class RecordedLoss:
    """Computes a loss and its gradients in one replay; recorded for each size of minibatch anew.

    Args:
        loss_of: computes the loss, `[]`, and diagnostics, `[]` each, of a minibatch `[N]`. Numbers
            that change during a training are read from tensors.
        parameters: what the loss is differentiated by.
    """

    def __init__(self, loss_of: Loss, parameters: Iterable[nn.Parameter]) -> None:
        self._loss_of = loss_of
        self._parameters = list(parameters)
        self._minibatch: list[Tensor] = []  # what the graph reads
        self._names: list[str] = []
        self._used: list[nn.Parameter] = []
        self._recorded: Recorded[tuple[Tensor, list[Tensor]]]

    def __call__(self, minibatch: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, whose gradients are known already, and the diagnostics.

        Args:
            minibatch: `[N]`.
        """
        entries = _entries_of(minibatch)
        if [one.shape for one in entries] == [one.shape for one in self._minibatch]:
            torch._foreach_copy_(self._minibatch, entries)
        else:
            own = minibatch.clone()
            self._minibatch = _entries_of(own)
            self._recorded = Recorded(partial(self._compute, own))
        numbers, gradients = self._recorded()
        loss, *diagnostics = numbers.clone()  # the next replay overwrites them
        apply = cast(Callable[..., Tensor], _WithGradients.apply)
        named = dict(zip(self._names, diagnostics, strict=True))
        return apply(loss, gradients, *self._used), named

    def _compute(self, minibatch: TensorDictBase) -> tuple[Tensor, list[Tensor]]:
        """The loss and the diagnostics, `[1 + D]`, and the gradients of the used parameters."""
        with torch.enable_grad():
            loss, diagnostics = self._loss_of(minibatch)
            found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        pairs = list(zip(self._parameters, found, strict=True))
        self._names = list(diagnostics)
        self._used = [parameter for parameter, gradient in pairs if gradient is not None]
        numbers = torch.stack([loss, *diagnostics.values()]).detach()
        return numbers, [gradient for gradient in found if gradient is not None]


def _entries_of(minibatch: TensorDictBase) -> list[Tensor]:
    return list(minibatch.values(include_nested=True, leaves_only=True))


class _WithGradients(torch.autograd.Function):
    """A loss whose gradients have been computed."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:
        """The loss, `[]`, given the gradients by each of the parameters that follow."""
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, scaled; the next replay does not overwrite the result."""
        return None, None, *torch._foreach_mul(ctx.gradients, slope)
