"""Conjugate gradient, Hessian-vector product, the step within a limit, and the line search."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from rl2_lightning.learners.natural_gradient import (
    assign,
    conjugate_gradient,
    flat_gradient,
    hessian_vector_product,
    line_search,
    trust_region_step,
)

SIZE = 6


def positive_definite(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(SIZE, SIZE, dtype=torch.float64, generator=generator)
    return root @ root.t() + 0.1 * torch.eye(SIZE, dtype=torch.float64)


def vector(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SIZE, dtype=torch.float64, generator=generator)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_conjugate_gradient_solves_in_as_many_steps_as_there_are_numbers() -> None:
    matrix, target = positive_definite(), vector()
    found = conjugate_gradient(matrix.mv, target, SIZE)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, target))


def test_each_step_of_the_conjugate_gradient_comes_closer() -> None:
    matrix, target = positive_definite(), vector()
    exact = torch.linalg.solve(matrix, target)

    def error(num_steps: int) -> float:
        difference = conjugate_gradient(matrix.mv, target, num_steps) - exact
        return float(difference @ matrix @ difference)

    errors = [error(num_steps) for num_steps in range(SIZE)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(float(target @ exact))


def test_conjugate_gradient_ends_when_it_is_solved() -> None:
    asked: list[Tensor] = []

    def product(direction: Tensor) -> Tensor:
        asked.append(direction)
        return 2 * direction

    torch.testing.assert_close(conjugate_gradient(product, vector(), 10), vector() / 2)
    assert len(asked) == 1
    assert not conjugate_gradient(product, torch.zeros(SIZE), 10).any()
    assert len(asked) == 1


def test_hessian_vector_product_is_the_product_with_the_hessian() -> None:
    network, inputs = small_network(), torch.randn(5, 3, dtype=torch.float64)
    parameters = list(network.parameters())
    sizes = [parameter.numel() for parameter in parameters]

    def value(flat: Tensor) -> Tensor:
        names = [name for name, _ in network.named_parameters()]
        parts = zip(flat.split(sizes), parameters, strict=True)
        given = dict(zip(names, [part.view_as(one) for part, one in parts], strict=True))
        return torch.func.functional_call(network, given, (inputs,)).square().sum()

    flat = parameters_to_vector(parameters).detach()
    hessian = torch.autograd.functional.hessian(value, flat)
    direction = torch.randn_like(flat)
    found = hessian_vector_product(network(inputs).square().sum(), parameters, direction)
    torch.testing.assert_close(found, hessian @ direction)


def test_gradients_are_flat_and_touch_no_grad() -> None:
    network, inputs = small_network(), torch.randn(5, 3, dtype=torch.float64)
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    found = flat_gradient(network(inputs).sum(), [*network.parameters(), unused])
    assert all(parameter.grad is None for parameter in network.parameters())
    network(inputs).sum().backward()
    expected = [*(parameter.grad for parameter in network.parameters()), torch.zeros(2)]
    torch.testing.assert_close(found, torch.cat([one.flatten() for one in expected]))


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_step_reaches_the_limit_of_the_quadratic_model(damping: float) -> None:
    matrix, gradient = positive_definite(), vector()
    step = trust_region_step(matrix.mv, gradient, limit=0.01, damping=damping, num_steps=SIZE)
    torch.testing.assert_close(step @ matrix @ step / 2, torch.tensor(0.01, dtype=torch.float64))
    natural = torch.linalg.solve(matrix + damping * torch.eye(SIZE), gradient)
    torch.testing.assert_close(step / step.norm(), natural / natural.norm())


def test_no_other_step_within_the_limit_gains_more() -> None:
    matrix, gradient = positive_definite(), vector()
    step = trust_region_step(matrix.mv, gradient, limit=0.01, damping=0, num_steps=SIZE)
    for seed in range(100):
        other = vector(seed)
        other = other * (0.02 / (other @ matrix @ other)).sqrt()
        assert gradient @ other <= gradient @ step


def test_without_a_gradient_there_is_no_step() -> None:
    matrix, nothing = positive_definite(), torch.zeros(SIZE, dtype=torch.float64)
    step = trust_region_step(matrix.mv, nothing, limit=0.01, damping=0.1, num_steps=SIZE)
    assert torch.equal(step, nothing)


def looked_up(found: list[tuple[float, float]]) -> Callable[[float], tuple[float, float]]:
    """Objective and divergence of successive evaluations."""
    remaining = iter(found)
    return lambda fraction: next(remaining)


@pytest.mark.parametrize(
    ("found", "number"),
    [
        ([(1.1, 0.01)], 0),
        ([(1.1, 0.011), (1.05, 0.01)], 1),  # too far
        ([(0.9, 0.001), (1.0, 0.001), (1.01, 0.001)], 2),  # worse, and no better
        ([(float("nan"), 0.001), (1.2, float("nan")), (1.2, float("inf")), (1.01, 0.0)], 3),
        ([(0.9, 0.001), (2.0, 0.1), (1.0, 0.0), (float("nan"), 0.0)], None),
    ],
)
def test_the_line_search_takes_the_first_improvement_within_the_limit(
    found: list[tuple[float, float]], number: int | None
) -> None:
    taken = line_search(looked_up(found), objective=1.0, limit=0.01, num_steps=len(found))
    if number is None:
        assert taken == (0.0, 1.0, 0.0)
    else:
        assert taken == (pytest.approx(0.8**number), *found[number])


def test_the_line_search_never_accepts_a_worse_step() -> None:
    torch.manual_seed(0)
    accepted = 0
    for objectives, divergences in torch.randn(500, 2, 4).tolist():
        pairs = list(zip(objectives, map(abs, divergences), strict=True))
        taken = line_search(looked_up(pairs), objective=0.5, limit=0.5, num_steps=4)
        if taken.fraction:
            accepted += 1
            assert taken.objective > 0.5
            assert taken.divergence <= 0.5
        else:
            assert all(one <= 0.5 or other > 0.5 for one, other in pairs)
    assert 50 < accepted < 450


def test_parameters_keep_their_storage_when_assigned() -> None:
    parameters = list(small_network().parameters())
    places = [parameter.data_ptr() for parameter in parameters]
    wanted = torch.randn_like(parameters_to_vector(parameters).detach())
    assign(parameters, wanted)
    assert torch.equal(parameters_to_vector(parameters).detach(), wanted)
    assert places == [parameter.data_ptr() for parameter in parameters]
