"""GRU and LSTM with their own kernels equal PyTorch's."""

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning.agents import products
from rl2_lightning.agents.memories import gru_kernel, lstm_kernel, recurrent_kernel
from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.lstm import LSTM
from rl2_lightning.agents.memories.memory import State, second_derivatives
from rl2_lightning.agents.memories.recurrent_kernel import parts_of
from tests.builders import make_memory

KINDS = ["gru", "lstm"]


def make(kind: str, num_layers: int = 1) -> GRU | LSTM:
    own = make_memory(kind, 5, hidden_size=7, num_layers=num_layers).double()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases, too
    return own


def layers_of(own: GRU | LSTM) -> nn.GRU | nn.LSTM:
    return own.gru if isinstance(own, GRU) else own.lstm


def draw_state(own: GRU | LSTM, num: int) -> State:
    dtype = next(own.parameters()).dtype
    return tuple(
        torch.randn(one.shape, dtype=dtype, requires_grad=True) for one in own.initial_state(num)
    )


def plain(own: GRU | LSTM, steps: Tensor, state: State) -> tuple[Tensor, State]:
    """A window by PyTorch's layers."""
    if isinstance(own, GRU):
        features, last = own.gru(steps, torch.stack(state))
        return features, last.unbind()
    pairs = torch.stack(state[::2]), torch.stack(state[1::2])
    features, last_pairs = own.lstm(steps, pairs)
    return features, tuple(one for pair in zip(*last_pairs, strict=True) for one in pair)


def results(features: Tensor, last: State, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    loss = (features * weights).sum() + sum(one.square().sum() for one in last)
    return [features, *last, *torch.autograd.grad(loss, inputs)]


def names_of(output: Tensor) -> set[str]:
    """The names of all operations behind a tensor."""
    waiting, found = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None:
            found.add(node.name())
            waiting += [following for following, _ in node.next_functions]
    return found


def has_kernel(features: Tensor) -> bool:
    return any(name.startswith(("_GRULayer", "_LSTMLayer")) for name in names_of(features))


def require_equal(own: GRU | LSTM, steps: Tensor, state: State, **tolerances: float) -> None:
    """The kernel and PyTorch's layers give the same numbers and gradients."""
    inputs = [steps, *state, *own.parameters()]
    features, last = own.unroll(steps, state)
    assert has_kernel(features)
    found = results(features, last, inputs)
    for expected, value in zip(results(*plain(own, steps, state), inputs), found, strict=True):
        torch.testing.assert_close(value, expected, **tolerances)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("length", [1, 6])
def test_it_gives_the_same_states_and_gradients(kind: str, num_layers: int, length: int) -> None:
    own = make(kind, num_layers)
    steps = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    require_equal(own, steps, draw_state(own, 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 4])
def test_from_an_empty_state_it_leaves_out_products_with_zero(kind: str, length: int) -> None:
    own = make(kind)
    steps = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    state = tuple(one.double().requires_grad_() for one in own.initial_state(3))
    require_equal(own, steps, state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_window_in_parts(kind: str, is_empty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_kernel, "LARGEST", 2 * 3 * 7 * 4)  # two steps of the LSTM's gates
    own = make(kind)
    steps = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    state = draw_state(own, 3)
    if is_empty:
        state = tuple(torch.zeros_like(one).requires_grad_() for one in state)
    require_equal(own, steps, state)


def test_the_parts_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_kernel, "LARGEST", 25)
    assert parts_of(5, 10) == [range(2), range(2, 4), range(4, 5)]
    assert parts_of(2, 10) == [range(2)]
    assert parts_of(2, 100) == [range(1), range(1, 2)], "a step is never divided"


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_output_beside_a_cell_that_is_not(kind: str) -> None:
    own = make(kind)
    steps = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    output, *others = draw_state(own, 3)
    require_equal(own, steps, (torch.zeros_like(output).requires_grad_(), *others))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize("kind", KINDS)
def test_with_the_products_of_onednn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_mkl_leaves_vectors_unused", lambda: True)
    own = make_memory(kind, 48, hidden_size=64, num_layers=1)
    steps = torch.randn(400, 3, 48, requires_grad=True)
    state = draw_state(own, 400)
    assert products.prefers_onednn(state[0], layers_of(own).weight_hh_l0[:64])
    require_equal(own, steps, state, rtol=1e-4, atol=1e-4)
    features, _ = own.unroll(steps, state)
    with torch.no_grad():
        stepped, _ = own.step(steps[:, 0], state)
    torch.testing.assert_close(stepped, features[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_finite_differences(kind: str) -> None:
    own = make(kind)
    steps = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    state = draw_state(own, 2)
    assert torch.autograd.gradcheck(lambda x, *state: own.unroll(x, state)[0], (steps, *state))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_place_is_pytorchs_step(kind: str) -> None:
    own = make(kind)
    weights = layers_of(own).all_weights[0]
    encoding = torch.randn(3, 5, dtype=torch.float64)
    state = tuple(one.detach() for one in draw_state(own, 3))
    kept = [tensor.clone() for tensor in (encoding, *state)]
    with torch.no_grad():
        if kind == "gru":
            found = gru_kernel.step_in_place(encoding, *state, *weights)
            expected = torch.gru_cell(encoding, *state, *weights)
        else:
            found = lstm_kernel.step_in_place(encoding, *state, *weights)
            expected = torch.lstm_cell(encoding, state, *weights)
    torch.testing.assert_close(found, expected)
    for tensor, before in zip((encoding, *state), kept, strict=True):
        assert torch.equal(tensor, before), "an argument is modified"


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_products_have_16_bits_and_the_state_more(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent_kernel, "LARGEST", 2 * 3 * 7 * 4)
    own = make(kind).float()
    steps = torch.randn(3, 5, 5, requires_grad=True)
    state = draw_state(own, 3)
    inputs = [steps, *state, *own.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        features, last = own.unroll(steps, state)
        with torch.no_grad():
            step, _ = own.step(steps[:, 0], state)
    assert has_kernel(features)
    assert {one.dtype for one in (features, *last, step)} == {torch.float32}
    torch.testing.assert_close(step, features[:, 0], atol=0.02, rtol=0.02)
    # The backward pass is outside of the context, as in training.
    found = results(features, last, inputs)
    for expected, value in zip(results(*plain(own, steps, state), inputs), found, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, atol=0.05 * float(expected.abs().max()), rtol=0)
        assert not torch.equal(value, expected), "nothing was rounded"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_mixed", [True, False])
def test_the_backward_pass_has_the_precision_of_the_forward_pass(
    kind: str, is_mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, seen = make(kind).float(), []

    def multiply(left: Tensor, right: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return products.sum_of_outer_products(left, right)

    monkeypatch.setattr(recurrent_kernel, "sum_of_outer_products", multiply)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        features, _ = own.unroll(torch.randn(3, 5, 5), own.initial_state(3))
    features.sum().backward()
    assert set(seen) == {is_mixed}


@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients_it_leaves_the_pass_to_pytorch(kind: str) -> None:
    own = make(kind)
    steps = torch.randn(3, 4, 5, dtype=torch.float64)
    state = tuple(one.detach() for one in draw_state(own, 3))
    with torch.no_grad():
        found = own.unroll(steps, state)[0]
        assert torch.equal(found, plain(own, steps, state)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_it_stands_back_for_second_derivatives_and_has_none(kind: str) -> None:
    own = make(kind)
    steps = torch.randn(3, 4, 5, dtype=torch.float64)
    state = tuple(one.double() for one in own.initial_state(3))
    weights = list(own.parameters())

    def first_derivatives() -> list[Tensor]:
        # A sum has a constant gradient, with which PyTorch would not detect a mistake.
        loss = own.unroll(steps, state)[0].sum()
        return list(torch.autograd.grad(loss, weights, create_graph=True))

    with second_derivatives():
        outer = sum(gradient.square().sum() for gradient in first_derivatives())
        assert all(gradient.any() for gradient in torch.autograd.grad(outer, weights))
        assert not has_kernel(own.unroll(steps, state)[0])
    with pytest.raises(RuntimeError, match=r"unroll it in second_derivatives\(\)"):
        first_derivatives()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_needs_no_gradient_of_what_it_is_given(kind: str) -> None:
    own = make(kind)
    steps = torch.randn(3, 4, 5, dtype=torch.float64)
    own.unroll(steps, tuple(one.double() for one in own.initial_state(3)))[0].sum().backward()
    assert all(parameter.grad.any() for parameter in own.parameters())
