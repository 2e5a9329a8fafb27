"""The distribution of continuous actions: its density and its entropy."""

import math

import pytest
import torch
from torch import Tensor
from torchrl.modules import TanhNormal

from rl2_lightning.agents.policies import LARGEST_LOC, LARGEST_SCALE, SMALLEST_SCALE
from rl2_lightning.agents.squashed_normal import SquashedNormal

LOW, HIGH = (-0.5, 1.0, -3.0), (0.5, 4.0, -2.0)


def distribution(
    loc: Tensor | float, scale: Tensor | float, low: float = -1.0, high: float = 1.0
) -> SquashedNormal:
    """A one-dimensional distribution in float64, with the same bounds for all."""
    loc, scale = torch.broadcast_tensors(torch.as_tensor(loc), torch.as_tensor(scale))
    loc, scale = loc.double().unsqueeze(-1), scale.double().unsqueeze(-1)
    centre, half_width = (torch.full_like(loc, x / 2) for x in (high + low, high - low))
    return SquashedNormal(loc, scale, centre, half_width)


def test_log_probability_is_a_change_of_variables() -> None:
    loc, scale = torch.tensor([0.3, -1.0, 0.0]), torch.tensor([0.5, 0.2, 1.5])
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    policy = SquashedNormal(loc, scale, (low + high) / 2, (high - low) / 2)
    action = torch.tensor([0.1, 1.4, -2.3])
    expected = 0.0
    for i in range(3):
        squashed = (action[i].item() - (LOW[i] + HIGH[i]) / 2) / ((HIGH[i] - LOW[i]) / 2)
        x = math.atanh(squashed)
        z = (x - loc[i].item()) / scale[i].item()
        density = math.exp(-(z**2) / 2) / (scale[i].item() * math.sqrt(2 * math.pi))
        slope = (1 - squashed**2) * (HIGH[i] - LOW[i]) / 2
        expected += math.log(density / slope)
    assert policy.log_prob(action).item() == pytest.approx(expected, rel=1e-5)


def test_it_is_the_tanh_normal_of_torchrl() -> None:
    loc, scale = torch.randn(50, 3), torch.rand(50, 3) + 0.1
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    ours = SquashedNormal(loc, scale, (low + high) / 2, (high - low) / 2)
    theirs = TanhNormal(loc, scale, low=low, high=high)
    torch.manual_seed(0)
    action = ours.sample()
    torch.manual_seed(0)
    torch.testing.assert_close(action, theirs.sample())
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.deterministic_sample, theirs.deterministic_sample)
    assert (action > low).all()
    assert (action < high).all()


@pytest.mark.parametrize("loc", [0.0, 0.7, -2.0, LARGEST_LOC])
@pytest.mark.parametrize("scale", [SMALLEST_SCALE, 0.3, 1.0, LARGEST_SCALE])
def test_density_and_entropy_are_those_of_an_integral_over_actions(
    loc: float, scale: float
) -> None:
    # Over the actions within 12 standard deviations of x, with the spacing of x.
    x = torch.linspace(loc - 12 * scale, loc + 12 * scale, 40_001, dtype=torch.float64)
    x = x[x.abs() < 14]  # beyond, an action is rounded to its bound even in float64
    action = 3.0 + 0.5 * x.tanh().unsqueeze(-1)
    log_density = distribution(loc, scale, 2.5, 3.5).log_prob(action)
    density = log_density.exp()
    assert torch.trapezoid(density, action.squeeze(-1)).item() == pytest.approx(1, abs=1e-4)
    entropy = -torch.trapezoid(density * log_density, action.squeeze(-1)).item()
    found = distribution(loc, scale, 2.5, 3.5).entropy().item()
    assert found == pytest.approx(entropy, abs=4e-3)


@pytest.mark.parametrize("loc", [0.0, 0.7, -2.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 1.8])
def test_gradient_of_the_entropy_is_that_of_a_difference(loc: float, scale: float) -> None:
    parameters = torch.tensor([loc, scale], dtype=torch.float64, requires_grad=True)
    distribution(*parameters).entropy().backward()
    nodes = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    weights = torch.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)

    def entropy(loc: float, scale: float) -> float:
        """The entropy of x plus a fine integral of the mean logarithm of the slope."""
        log_slope = torch.log1p(-((loc + scale * nodes).clamp(-15, 15).tanh() ** 2))
        mean = torch.trapezoid(weights * log_slope, nodes).item()
        return 0.5 * math.log(2 * math.pi * math.e * scale**2) + mean

    small = 1e-4
    by_loc = (entropy(loc + small, scale) - entropy(loc - small, scale)) / (2 * small)
    by_scale = (entropy(loc, scale + small) - entropy(loc, scale - small)) / (2 * small)
    assert parameters.grad is not None
    assert parameters.grad.tolist() == pytest.approx([by_loc, by_scale], abs=0.01)


def test_entropy_is_the_mean_of_drawn_log_probabilities() -> None:
    loc, scale = torch.randn(3), torch.rand(3) + 0.2
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    policy = SquashedNormal(loc, scale, (low + high) / 2, (high - low) / 2)
    torch.manual_seed(1)
    log_probs = policy.log_prob(policy.sample((200_000,)))
    error = log_probs.std().item() / 200_000**0.5
    assert policy.entropy().item() == pytest.approx(-log_probs.mean().item(), abs=5 * error)
