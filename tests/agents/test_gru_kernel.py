"""The GRU's own pass over windows equals PyTorch's."""

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning.agents import products
from rl2_lightning.agents.memories import gru_kernel
from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.memory import second_derivatives
from tests.agents.recurrent import names_of
from tests.builders import make_memory


def pair(num_layers: int = 1) -> tuple[nn.GRU, GRU]:
    own = make_memory("gru", 5, hidden_size=7, num_layers=num_layers).double()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases, too
    return own.gru, own


def results(features: Tensor, last: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    loss = (features * weights).sum() + last.square().sum()
    return [features, last, *torch.autograd.grad(loss, inputs)]


def has_kernel(features: Tensor) -> bool:
    return any("GRULayer" in name for name in names_of(features))


def require_equal(own: GRU, steps: Tensor, state: Tensor, **tolerances: float) -> None:
    """The kernel and PyTorch's layers give the same numbers and gradients."""
    inputs = [steps, state, *own.parameters()]
    features, last = own.unroll(steps, state.unbind())
    assert has_kernel(features)
    found = results(features, torch.stack(last), inputs)
    for expected, value in zip(results(*own.gru(steps, state), inputs), found, strict=True):
        torch.testing.assert_close(value, expected, **tolerances)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("length", [1, 6])
def test_it_gives_the_same_states_and_gradients(num_layers: int, length: int) -> None:
    _, own = pair(num_layers)
    steps = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(num_layers, 3, 7, dtype=torch.float64, requires_grad=True)
    require_equal(own, steps, state)


@pytest.mark.parametrize("length", [1, 4])
def test_from_an_empty_state_it_leaves_out_products_with_zero(length: int) -> None:
    _, own = pair()
    steps = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    require_equal(own, steps, torch.zeros(1, 3, 7, dtype=torch.float64, requires_grad=True))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_with_the_products_of_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_mkl_leaves_vectors_unused", lambda: True)
    own = make_memory("gru", 48, hidden_size=64, num_layers=1)
    steps = torch.randn(400, 3, 48, requires_grad=True)
    state = torch.randn(1, 400, 64, requires_grad=True)
    assert products.prefers_onednn(state[0], own.gru.weight_hh_l0[:64])
    require_equal(own, steps, state, rtol=1e-4, atol=1e-4)


def test_its_gradient_is_that_of_finite_differences() -> None:
    _, own = pair()
    steps = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: own.unroll(x, (h,))[0], (steps, state))


def test_under_autocast_products_have_16_bits_and_states_more() -> None:
    _, own = pair()
    own = own.float()
    steps, state = torch.randn(3, 5, 5, requires_grad=True), torch.randn(1, 3, 7).requires_grad_()
    inputs = [steps, state, *own.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        features, last = own.unroll(steps, state.unbind())
    assert has_kernel(features)
    assert features.dtype == last[0].dtype == torch.float32
    # The backward pass is outside of the context, as in training.
    found = results(features, torch.stack(last), inputs)
    for expected, value in zip(results(*own.gru(steps, state), inputs), found, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, atol=0.05 * float(expected.abs().max()), rtol=0)
        assert not torch.equal(value, expected), "nothing was rounded"


@pytest.mark.parametrize("is_mixed", [True, False])
def test_the_backward_pass_has_the_precision_of_the_forward_pass(
    is_mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, own = pair()
    own, seen = own.float(), []

    def multiply(left: Tensor, right: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return products.sum_of_outer_products(left, right)

    monkeypatch.setattr(gru_kernel, "sum_of_outer_products", multiply)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        features, _ = own.unroll(torch.randn(3, 5, 5), own.initial_state(3))
    features.sum().backward()
    assert set(seen) == {is_mixed}


def test_without_gradients_it_leaves_the_pass_to_pytorch() -> None:
    plain, own = pair()
    steps, state = torch.randn(3, 4, 5).double(), torch.randn(1, 3, 7).double()
    with torch.no_grad():
        assert torch.equal(own.unroll(steps, state.unbind())[0], plain(steps, state)[0])


def test_it_stands_back_for_second_derivatives_and_has_none() -> None:
    _, own = pair()
    steps, state = torch.randn(3, 4, 5, dtype=torch.float64), torch.zeros(3, 7).double()
    weights = list(own.parameters())

    def first_derivatives() -> list[Tensor]:
        # A sum has a constant gradient, with which PyTorch would not detect a mistake.
        loss = own.unroll(steps, (state,))[0].sum()
        return list(torch.autograd.grad(loss, weights, create_graph=True))

    with second_derivatives():
        outer = sum(gradient.square().sum() for gradient in first_derivatives())
        assert all(gradient.any() for gradient in torch.autograd.grad(outer, weights))
        assert not has_kernel(own.unroll(steps, (state,))[0])
    with pytest.raises(RuntimeError, match=r"unroll it in second_derivatives\(\)"):
        first_derivatives()


def test_a_layer_needs_no_gradient_of_what_it_is_given() -> None:
    _, own = pair()
    steps, state = torch.randn(4, 3, 5, dtype=torch.float64), torch.zeros(3, 7).double()
    gru_kernel.unroll_layer(steps, state, *own.gru.all_weights[0]).sum().backward()
    assert all(parameter.grad.any() for parameter in own.parameters())
