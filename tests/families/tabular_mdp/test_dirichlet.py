"""The Dirichlet samples follow the Dirichlet distribution."""

from math import comb

import pytest
import torch

from rl2_lightning.families.tabular_mdp.dirichlet import sample_dirichlet
from tests.families.draws import seeded


def distribution_function(alpha: int, beta: int, x: torch.Tensor) -> torch.Tensor:
    """P(Beta <= x): the chance that at least alpha of `alpha + beta - 1` uniforms are <= x."""
    n = alpha + beta - 1
    return sum(comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(alpha, n + 1))


@pytest.mark.parametrize("concentration", [[1, 1, 1], [1, 2, 5], [40, 1, 3]])
def test_each_entry_follows_its_beta_distribution(concentration):
    n = 100_000
    sample = sample_dirichlet(torch.tensor(concentration).float().expand(n, 3), seeded(0))
    for entry, alpha in zip(sample.unbind(1), concentration, strict=True):
        expected = distribution_function(alpha, sum(concentration) - alpha, entry.double())
        distance = (expected.sort().values - torch.arange(n) / n).abs().max().item()
        assert distance < 1.95 / n**0.5  # Kolmogorov-Smirnov, level 0.001


def test_entries_covary_as_they_should():
    concentration = torch.tensor([1.0, 3.0, 6.0, 1.0])
    total = concentration.sum()
    mean = concentration / total
    sample = sample_dirichlet(concentration.expand(100_000, 4), seeded(1))
    expected = (mean.diag() - mean.outer(mean)) / (total + 1)
    torch.testing.assert_close(torch.cov(sample.T), expected, atol=3e-4, rtol=0)


def test_each_vector_has_its_own_concentrations():
    concentration = torch.tensor([[[1.0, 900.0], [900.0, 1.0]]])
    sample = sample_dirichlet(concentration, seeded(2))
    assert sample.shape == (1, 2, 2)
    assert torch.equal(sample > 0.5, concentration > 1)
    torch.testing.assert_close(sample.sum(-1), torch.ones(1, 2))


def test_vectors_may_stand_in_front():
    concentration = torch.tensor([[1.0, 900.0], [900.0, 900.0], [1.0, 1.0]])
    sample = sample_dirichlet(concentration, seeded(2), dim=0)
    torch.testing.assert_close(sample.sum(0), torch.ones(2))
    assert sample[1, 0] > 0.9


def test_the_concentrations_are_left_as_they_were():
    concentration = torch.tensor([[1.0, 2.0, 3.0]])
    sample_dirichlet(concentration, seeded(3))
    assert concentration.tolist() == [[1, 2, 3]]


def test_same_seed_same_samples():
    ones = torch.ones(10, 3)
    first = sample_dirichlet(ones, seeded(3))
    assert torch.equal(sample_dirichlet(ones, seeded(3)), first)
    assert not torch.equal(sample_dirichlet(ones, seeded(4)), first)
