"""Means over trials with confidence intervals, accumulated over batches and ranks."""

import math
from abc import abstractmethod
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

NORMAL_QUANTILE = 1.96  # standard errors on either side that enclose 95 % of a normal distribution


class Estimate(NamedTuple):
    """A figure with its confidence interval; NaN if it was not measured.

    Attributes:
        value: the estimate.
        half_width: 1.96 standard errors, over trials.
    """

    value: float
    half_width: float

    def text(self) -> str:
        """The figure as text."""
        if not math.isfinite(self.value):
            return "not measured"
        return f"{self.value:+.3f} ± {self.half_width:.3f}"


class ColumnMeans(Metric):
    """Accumulate the means of per-trial numbers, one mean per column.

    The states are sums, so that ranks may have different numbers of trials. They are float64 and
    remain so under every precision of the trainer: a rounded sum of squares would make the variance
    useless.

    Args:
        num_columns: C.
        **kwargs: options of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    totals: Tensor
    squares: Tensor
    counts: Tensor

    def __init__(self, num_columns: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("totals", "squares", "counts"):
            default = torch.zeros(num_columns, dtype=torch.float64)
            self.add_state(name, default=default, dist_reduce_fx="sum")

    @abstractmethod
    def compute(self) -> Any:
        """The result, from the means over all trials on all ranks."""

    def add(self, values: Tensor, counted: Tensor) -> None:
        """Add a batch of trials.

        Args:
            values: the numbers, `[B, C]`, float64; zero where they do not count.
            counted: where they count, `[B, C]`, bool.
        """
        self.totals += values.sum(0)
        self.squares += values.square().sum(0)
        self.counts += counted.sum(0)

    def estimates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the accumulated means.

        Returns:
            The mean of each column, 1.96 standard errors of it, and the number of trials that
            counted; each `[C]`, float64, on the CPU. NaN where nothing was measured.
        """
        totals, squares, counts = self.totals.cpu(), self.squares.cpu(), self.counts.cpu()
        mean = totals / counts
        variance = (squares - totals * mean).clamp(min=0.0) / (counts - 1)
        half_width = NORMAL_QUANTILE * (variance / counts).sqrt()
        return mean, half_width.masked_fill(counts < 2, math.nan), counts

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        # The library's wrapper rebuilds dataclasses and squeezes tensors of one element: hide the
        # result from it in an object that it does not inspect.
        wrapped = super()._wrap_compute(lambda: SimpleNamespace(result=compute()))
        return lambda: wrapped().result

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> "ColumnMeans":
        # `Module.to(bfloat16)` would convert the states: move them to the device, but keep the
        # dtype.
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), *args, **kwargs)
        return self
