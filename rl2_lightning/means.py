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
# The same for few values: the quantiles of Student's t with 1 to 9 degrees of freedom.
STUDENT_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, to 0.003.

    From 10 degrees of freedom on it is an expansion (Abramowitz and Stegun 1964, 26.7.5).
    """
    if degrees <= len(STUDENT_QUANTILES):
        return STUDENT_QUANTILES[degrees - 1]
    z = 1.959964
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return z + (z**3 + z) / (4 * degrees) + second


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
