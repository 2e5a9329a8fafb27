"""The differentiable update is the optimiser's own, and its derivatives are exact."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning.learners.inner_update import AdamUpdate

RATE = torch.tensor(0.01, dtype=torch.float64)


def trained(num_steps: int) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Parameters of several shapes, and an Adam optimiser that has taken steps."""
    torch.manual_seed(0)
    shapes = [(3, 2), (4,), ()]
    parameters = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    optimizer = torch.optim.Adam(parameters, lr=RATE.item(), eps=1e-6)
    for _ in range(num_steps):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return parameters, optimizer


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])


@pytest.mark.parametrize("largest", [None, 0.5, 100.0])
@pytest.mark.parametrize("num_steps", [0, 1, 7])
def test_the_change_is_the_one_that_the_optimiser_makes(
    num_steps: int, largest: float | None
) -> None:
    parameters, optimizer = trained(num_steps)
    update = AdamUpdate.following(optimizer, largest)
    before = flat(parameters)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    found = update.change(flat([parameter.grad for parameter in parameters]), RATE)
    if largest:
        nn.utils.clip_grad_norm_(parameters, largest)
    optimizer.step()
    torch.testing.assert_close(found, flat(parameters) - before)


@pytest.mark.parametrize("largest", [None, 0.5, 100.0])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_derivatives_are_finite_differences(num_steps: int, largest: float | None) -> None:
    _, optimizer = trained(num_steps)
    update = AdamUpdate.following(optimizer, largest)
    torch.manual_seed(1)
    gradient, of_gradient = torch.randn(11).double(), torch.randn(3, 11).double()
    of_rate = torch.tensor([0.0, 1.0, -0.3]).double()
    found = update.derivatives(gradient, of_gradient, RATE, of_rate)
    width = 1e-6
    for row, by_gradient, by_rate in zip(found, of_gradient, of_rate, strict=True):
        high, low = (
            update.change(gradient + w * by_gradient, RATE + w * by_rate) for w in (width, -width)
        )
        torch.testing.assert_close(row, (high - low) / (2 * width), rtol=1e-6, atol=1e-9)


def test_a_weight_without_any_gradient_has_derivatives_of_zero() -> None:
    _, optimizer = trained(3)
    update = AdamUpdate.following(optimizer, None)
    gone = torch.zeros_like(update.first_moment)
    update = replace(update, first_moment=gone, second_moment=gone)
    gradient = torch.arange(11, dtype=torch.float64)
    of_gradient = torch.ones(1, 11).double().index_fill(1, torch.tensor([0]), 0)
    found = update.derivatives(gradient, of_gradient, RATE, torch.zeros(1).double())
    assert found.isfinite().all()
    assert found[0, 0] == 0
    assert found[0, 1:].all()
