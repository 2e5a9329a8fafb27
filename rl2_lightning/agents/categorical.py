"""A categorical distribution that is fast for few categories."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.distributions.utils import lazy_property


class LogitCategorical(Categorical):
    """PyTorch's categorical distribution, normalised by one `log_softmax`.

    On a CPU `softmax` and `logsumexp` over the last dimension of `[10000, 5]`, which PyTorch's own
    class calls, take 7 and 3 times as long.

    Args:
        logits: `[..., N]`, float; they need not be normalised.
        validate_args: whether values are validated; see `torch.distributions`.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = self._param = torch.log_softmax(logits, dim=-1)
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
