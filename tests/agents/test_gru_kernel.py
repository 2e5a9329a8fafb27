"""The GRU with its own kernels equals PyTorch's GRU."""

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning.agents import products
from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.gru_kernel import step_in_place, unroll_layer
from rl2_lightning.agents.memories.memory import second_derivatives
from tests.builders import make_memory


def pair(num_layers: int) -> tuple[nn.GRU, GRU]:
    own = make_memory("gru", 5, hidden_size=7, num_layers=num_layers).double()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases, too
    return own.gru, own


def results(features: Tensor, last: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    loss = (features * weights).sum() + last.square().sum()
    return [features, last, *torch.autograd.grad(loss, inputs)]


def names_of(output: Tensor) -> set[str]:
    """The names of all operations behind a tensor."""
    waiting, found = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None:
            found.add(node.name())
            waiting += [following for following, _ in node.next_functions]
    return found


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("length", [1, 6])
def test_it_gives_the_same_states_and_gradients(num_layers: int, length: int) -> None:
    plain, own = pair(num_layers)
    steps = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(num_layers, 3, 7, dtype=torch.float64, requires_grad=True)
    inputs = [steps, state, *own.parameters()]
    features, last = own.unroll(steps, state.unbind())
    assert any("GRULayer" in name for name in names_of(features))
    found = results(features, torch.stack(last), inputs)
    for expected, value in zip(results(*plain(steps, state), inputs), found, strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("length", [1, 4])
def test_from_an_empty_state_it_leaves_out_products_with_zero(length: int) -> None:
    plain, own = pair(1)
    steps = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    state = torch.zeros(1, 3, 7, dtype=torch.float64, requires_grad=True)
    inputs = [steps, state, *own.parameters()]
    features, last = own.unroll(steps, state.unbind())
    found = results(features, torch.stack(last), inputs)
    for expected, value in zip(results(*plain(steps, state), inputs), found, strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_with_the_products_of_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_mkl_leaves_vectors_unused", lambda: True)
    own = make_memory("gru", 48, hidden_size=64, num_layers=1)
    steps = torch.randn(400, 3, 48, requires_grad=True)
    state = torch.randn(1, 400, 64, requires_grad=True)
    assert products.prefers_onednn(state[0], own.gru.weight_hh_l0[:64])
    inputs = [steps, state, *own.parameters()]
    features, last = own.unroll(steps, state.unbind())
    found = results(features, torch.stack(last), inputs)
    for expected, value in zip(results(*own.gru(steps, state), inputs), found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        stepped, _ = own.step(steps[:, 0], state.unbind())
    torch.testing.assert_close(stepped, features[:, 0], rtol=1e-4, atol=1e-5)


def test_its_gradient_is_that_of_finite_differences() -> None:
    _, own = pair(1)
    steps = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: own.unroll(x, (h,))[0], (steps, state))


def test_a_step_in_place_is_pytorchs_step() -> None:
    _, own = pair(1)
    weights, state = own.gru.all_weights[0], torch.randn(3, 7, dtype=torch.float64)
    encoding = torch.randn(3, 5, dtype=torch.float64)
    kept = [tensor.clone() for tensor in (encoding, state)]
    with torch.no_grad():
        found = step_in_place(encoding, state, *weights)
    torch.testing.assert_close(found, torch.gru_cell(encoding, state, *weights))
    assert torch.equal(encoding, kept[0])
    assert torch.equal(state, kept[1]), "the argument is not modified"


def test_under_autocast_and_without_gradients_it_leaves_the_pass_to_pytorch() -> None:
    plain, own = pair(1)
    plain, own = plain.float(), own.float()
    steps, state = torch.randn(3, 4, 5), torch.zeros(3, 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = own.unroll(steps, (state,))[0]
        assert found.dtype == plain(steps, state.unsqueeze(0))[0].dtype
        step, _ = own.step(steps[:, 0], (state,))
        torch.testing.assert_close(step.float(), found[:, 0].float(), atol=0.02, rtol=0.02)
    with torch.no_grad():
        found = own.unroll(steps, (state,))[0]
        assert torch.equal(found, plain(steps, state.unsqueeze(0))[0])


def test_it_stands_back_for_second_derivatives_and_has_none() -> None:
    _, own = pair(1)
    steps, state = torch.randn(3, 4, 5, dtype=torch.float64), torch.zeros(3, 7).double()
    weights = list(own.parameters())

    def first_derivatives() -> list[Tensor]:
        # A sum has a constant gradient, with which PyTorch would not detect a mistake.
        loss = own.unroll(steps, (state,))[0].sum()
        return list(torch.autograd.grad(loss, weights, create_graph=True))

    with second_derivatives():
        outer = sum(gradient.square().sum() for gradient in first_derivatives())
        assert all(gradient.any() for gradient in torch.autograd.grad(outer, weights))
        features = own.unroll(steps, (state,))[0]
        assert not any("GRULayer" in name for name in names_of(features))
    with pytest.raises(RuntimeError, match=r"unroll it in second_derivatives\(\)"):
        first_derivatives()


def test_a_layer_needs_no_gradient_of_what_it_is_given() -> None:
    _, own = pair(1)
    steps, state = torch.randn(4, 3, 5, dtype=torch.float64), torch.zeros(3, 7).double()
    unroll_layer(steps, state, *own.gru.all_weights[0]).sum().backward()
    assert all(parameter.grad.any() for parameter in own.parameters())
