"""Samples of the Dirichlet distribution from a generator, on any device."""

import torch
from torch import Tensor

from rl2_lightning.families.gamma import sample_gamma


def sample_dirichlet(concentration: Tensor, generator: torch.Generator, dim: int = -1) -> Tensor:
    """Sample probability vectors as normalised Gamma variables.

    `torch.distributions.Dirichlet` takes no generator. The concentrations are those of a flat prior
    after a whole number of observations: a Gamma(c) variable is then an exponential one plus
    Gamma(c - 1), and without observations only the exponential one. If most outcomes are unseen,
    this takes a quarter of the time of rejection sampling for all of them.

    Args:
        concentration: whole numbers from 1, any shape, float32.
        generator: source of randomness, on the same device.
        dim: the dimension of a vector.

    Returns:
        One sample for each vector of concentrations, same shape, float32; each sums to 1.
    """
    # In place, because allocating results takes longer than the arithmetic.
    weights = torch.rand(concentration.shape, generator=generator, device=concentration.device)
    weights.neg_().log1p_().neg_()
    observations = concentration.flatten() - 1
    observed = observations.nonzero().squeeze(1)
    weights.view(-1)[observed] += sample_gamma(observations[observed], generator)
    return weights.div_(weights.sum(dim, keepdim=True))
