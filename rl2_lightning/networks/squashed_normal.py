"""A normal distribution squeezed between the bounds of continuous actions."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform, Independent, Normal, TransformedDistribution
from torchrl.data import Bounded
from torchrl.modules.distributions.continuous import SafeTanhTransform

LARGEST_LOC = 5.0  # where tanh is within 1e-4 of its bounds, and log-probabilities are still finite
SMALLEST_SCALE, LARGEST_SCALE = 0.01, 2.0  # in the middle of them actions are nearly uniform
NUM_NODES = 16  # of the quadrature, whose error is below 0.004 nats for all scales


class SquashedNormal(TransformedDistribution):
    """The distribution of `centre + half_width * tanh(x)` for a normal x.

    It is TorchRL's `TanhNormal`, on the same tanh that can be inverted at its bounds. But it tells
    its entropy, so that no loss draws for it, and needs no look at the values of its bounds, for
    which a device would be waited for at every step.

    Args:
        loc: mean of x, `[..., A]`, float32.
        scale: standard deviation of x, `[..., A]`, float32.
        centre: middle of the bounds, `[..., A]`, float32.
        half_width: half the distance of the bounds, `[..., A]`, float32.
        validate_args: whether parameters and actions are looked at; see `torch.distributions`.
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
            [SafeTanhTransform(), AffineTransform(centre, half_width)],
            validate_args,
        )

    @property
    def deterministic_sample(self) -> Tensor:
        """The action where x is at its mean, `[..., A]`: the median of each dimension."""
        action = self.loc
        for transform in self.transforms:
            action = transform(action)
        return action

    def entropy(self) -> Tensor:
        """Differential entropy in nats, `[...]`, differentiable.

        It is that of x plus the mean of the logarithm of the squashing's slope, which has no closed
        form and is integrated by Gauss-Hermite quadrature.
        """
        nodes, weights = _quadrature(self.loc)
        x = self.loc.unsqueeze(-1) + self.scale.unsqueeze(-1) * nodes
        # The logarithm of 1 - tanh(x)², which is lost to rounding where tanh is close to 1.
        log_slope = 2 * (math.log(2) - x - nn.functional.softplus(-2 * x))
        of_normal = 0.5 * math.log(2 * math.pi * math.e) + self.scale.log()
        return (of_normal + log_slope @ weights + self.half_width.log()).sum(-1)


def _quadrature(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the mean over a standard normal distribution, `[NUM_NODES]` each."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NUM_NODES)
    return torch.tensor(nodes).to(like), torch.tensor(weights / weights.sum()).to(like)


class SquashedNormalParameters(nn.Module):
    """From the outputs of a layer to the parameters of a `SquashedNormal`.

    Location and scale are kept in ranges within which no log-probability can overflow: beyond
    them an action is rounded to its bound, and its probability could be any.

    Args:
        action_spec: unbatched spec of the action, whose bounds are finite.
    """

    centre: Tensor
    half_width: Tensor

    def __init__(self, action_spec: Bounded) -> None:
        super().__init__()
        low, high = action_spec.space.low.float(), action_spec.space.high.float()
        self.register_buffer("centre", (low + high) / 2, persistent=False)
        self.register_buffer("half_width", (high - low) / 2, persistent=False)

    def forward(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gives loc, scale, centre and half width, `[..., A]` each, of outputs `[..., 2 A]`."""
        # An action is float32 under every precision of the trainer.
        loc, scale = outputs.float().chunk(2, dim=-1)
        loc = LARGEST_LOC * torch.tanh(loc / LARGEST_LOC)
        scale = SMALLEST_SCALE + (LARGEST_SCALE - SMALLEST_SCALE) * torch.sigmoid(scale)
        return loc, scale, self.centre.expand_as(loc), self.half_width.expand_as(loc)
