"""The Beta samples follow the Beta distribution."""

from math import comb

import pytest
import torch

from rl2_lightning.families.gamma import sample_beta
from tests.families.draws import seeded


def distribution_function(alpha: int, beta: int, x: torch.Tensor) -> torch.Tensor:
    """P(Beta <= x): the chance that at least alpha of `alpha + beta - 1` uniforms are <= x."""
    n = alpha + beta - 1
    return sum(comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(alpha, n + 1))


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (1, 7), (3, 2), (30, 12)])
def test_samples_follow_the_distribution(alpha, beta):
    n = 100_000
    sample = sample_beta(torch.full((n,), float(alpha)), torch.full((n,), float(beta)), seeded(0))
    expected = distribution_function(alpha, beta, sample.double().sort().values)
    distance = (expected - torch.arange(n) / n).abs().max().item()
    assert distance < 1.95 / n**0.5  # Kolmogorov-Smirnov, level 0.001


def test_moments_of_large_counts():
    sample = sample_beta(torch.full((100_000,), 400.0), torch.full((100_000,), 102.0), seeded(1))
    mean, variance = 400 / 502, 400 * 102 / (502**2 * 503)
    assert sample.mean().item() == pytest.approx(mean, abs=4 * (variance / 100_000) ** 0.5)
    assert sample.var().item() == pytest.approx(variance, rel=0.03)


def test_each_entry_has_its_own_parameters():
    alpha = torch.tensor([[1.0, 500.0], [500.0, 1.0]])
    sample = sample_beta(alpha, alpha.flip(1), seeded(2))
    assert torch.equal(sample > 0.5, alpha > 1)


def test_same_seed_same_samples():
    ones = torch.ones(10, 3)
    assert torch.equal(sample_beta(ones, ones, seeded(3)), sample_beta(ones, ones, seeded(3)))
