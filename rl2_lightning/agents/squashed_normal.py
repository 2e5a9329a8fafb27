"""A normal distribution squashed between the bounds of continuous actions."""

import math
from functools import cache
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
)

NUM_NODES = 16  # of the quadrature, whose error is below 0.004 nats for all scales


class SafeTanh(TanhTransform):
    """A tanh that can be inverted at its bounds, since actions may be rounded to these."""

    def _call(self, x: Tensor) -> Tensor:
        return self._within(x.tanh())

    def _inverse(self, y: Tensor) -> Tensor:
        return self._within(y).atanh()

    @staticmethod
    def _within(y: Tensor) -> Tensor:
        most = 1 - torch.finfo(y.dtype).resolution
        return y.clamp(-most, most)


class SquashedNormal(TransformedDistribution):
    """The distribution of `centre + half_width * tanh(x)` for a normal x.

    Like TorchRL's `TanhNormal`, but it computes its entropy, so that losses need not sample it, and
    does not check the values of its bounds, which would synchronise with the device at every step.

    Args:
        loc: mean of x, `[..., A]`, float32.
        scale: standard deviation of x, `[..., A]`, float32.
        centre: middle of the bounds, `[..., A]`, float32.
        half_width: half the distance of the bounds, `[..., A]`, float32.
        validate_args: whether parameters and actions are validated; see `torch.distributions`.
    """

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        centre: Tensor,
        half_width: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.half_width = loc, scale, half_width
        super().__init__(
            Independent(Normal(loc, scale, validate_args), 1, validate_args),
            [SafeTanh(), AffineTransform(centre, half_width)],
            validate_args,
        )

    @property
    def deterministic_sample(self) -> Tensor:
        """The action at the mean of x, `[..., A]`: the median of each dimension."""
        return self.squash(self.loc)

    def squash(self, x: Tensor) -> Tensor:
        """The action `[..., A]` for a sample of the normal distribution, `[..., A]`."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def entropy(self) -> Tensor:
        """Differential entropy in nats, `[...]`, differentiable.

        It is the entropy of x plus the mean of the logarithm of the squashing's slope, which has no
        closed form and is integrated by Gauss-Hermite quadrature.
        """
        nodes, weights = _quadrature(self.loc.dtype, self.loc.device)
        x = self.loc.unsqueeze(-1) + self.scale.unsqueeze(-1) * nodes
        # The logarithm of 1 - tanh(x)², in a form that is exact where tanh is close to 1.
        log_slope = 2 * (math.log(2) - x - nn.functional.softplus(-2 * x))
        of_normal = 0.5 * math.log(2 * math.pi * math.e) + self.scale.log()
        return (of_normal + log_slope @ weights + self.half_width.log()).sum(-1)


@cache
def _quadrature(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the mean over a standard normal distribution, `[NUM_NODES]` each.

    They are copied to a GPU once, since a CUDA graph cannot contain such a copy.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NUM_NODES)
    # An evaluation may be the first to ask; its tensors could not be differentiated through.
    with torch.inference_mode(mode=False):
        found = (torch.tensor(numbers) for numbers in (nodes, weights / weights.sum()))
        return cast(tuple[Tensor, Tensor], tuple(one.to(device, dtype) for one in found))
