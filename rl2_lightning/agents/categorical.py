"""Categorical distributions that are fast for few categories."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.distributions.utils import lazy_property

FEW = 15  # categories, up to which PyTorch's `log_softmax` over the last dimension is slow on a CPU


def log_softmax(logits: Tensor) -> Tensor:
    """The logarithm of the softmax over the last dimension.

    Over the last dimension of `[10000, 10]` PyTorch takes nine times as long, because it computes
    few numbers at a time.

    Args:
        logits: `[..., N]`, float.

    Returns:
        `[..., N]`; few categories are not the last dimension in memory.
    """
    if logits.device.type != "cpu" or logits.shape[-1] > FEW:
        return torch.log_softmax(logits, dim=-1)
    by_category = logits.movedim(-1, 0).contiguous()
    return torch.log_softmax(by_category, dim=0).movedim(0, -1)


class LogitCategorical(Categorical):
    """PyTorch's categorical distribution, normalised by `log_softmax`.

    PyTorch's own class calls `logsumexp` and `softmax`, which are as slow as its `log_softmax`.

    Args:
        logits: `[..., N]`, float; they need not be normalised.
        validate_args: whether values are validated; see `torch.distributions`.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = self._param = log_softmax(logits)
        self._num_events = logits.shape[-1]
        Distribution.__init__(self, logits.shape[:-1], validate_args=validate_args)

    @lazy_property
    def probs(self) -> Tensor:
        """The probabilities, `[..., N]`."""
        return self.logits.exp()

    def expand(self, batch_shape: Any, _instance: Any = None) -> Categorical:
        """See `torch.distributions.Distribution.expand`."""
        new: Categorical = self._get_checked_instance(LogitCategorical, _instance)  # type: ignore[no-untyped-call]
        return super().expand(batch_shape, new)  # type: ignore[no-untyped-call]
