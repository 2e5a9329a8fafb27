"""Samples of the Gamma and Beta distributions from a generator, on any device."""

import torch
from torch import Tensor


def sample_gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Sample Gamma(shape, 1) by rejection (Marsaglia and Tsang, 2000).

    `torch.distributions.Gamma` takes no generator, and `torch._standard_gamma` is slower on a CPU.

    Args:
        shape: the parameter, any shape, float32, at least 1.
        generator: source of randomness, on the same device.

    Returns:
        One sample for each parameter, same shape, float32.
    """
    remaining_shape = shape.flatten()
    sample, accepted = _propose(remaining_shape, generator)
    pending = (~accepted).nonzero().squeeze(1)
    while pending.numel() > 0:
        retry, accepted = _propose(remaining_shape[pending], generator)
        sample[pending] = retry
        pending = pending[~accepted]
    return sample.view_as(shape)


def sample_beta(alpha: Tensor, beta: Tensor, generator: torch.Generator) -> Tensor:
    """Sample Beta(alpha, beta) as X / (X + Y) of two Gamma variables.

    `torch.distributions.Beta` takes no generator; this is also several times faster on a CPU.

    Args:
        alpha: first parameter, any shape, float32, at least 1.
        beta: second parameter, same shape, float32, at least 1.
        generator: source of randomness, on the same device.

    Returns:
        One sample for each pair of parameters, same shape, float32.
    """
    first, second = sample_gamma(torch.stack((alpha, beta)), generator).unbind()
    return first / (first + second)


def _propose(shape: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a proposal for each shape, and whether it is accepted (95 % or more are)."""
    scale = shape - 1 / 3
    normal = torch.randn(shape.shape, generator=generator, device=shape.device)
    cube = (1 + normal * (9 * scale).rsqrt()).pow(3)
    uniform = torch.rand(shape.shape, generator=generator, device=shape.device)
    # The logarithm of a negative cube is NaN: the comparison is false, as required.
    accepted = uniform.log() < 0.5 * normal.square() + scale * (1 - cube + cube.log())
    return scale * cube, accepted
