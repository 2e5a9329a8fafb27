"""The scans of the minimal GRU are its recursion."""

import pytest
import torch
from torch import Tensor

from rl2_lightning.agents.memories.memory import second_derivatives
from rl2_lightning.agents.memories.min_gru import linear_recurrence, unroll_in_place
from tests.agents.layers import assert_orthogonal
from tests.builders import make_memory


def literal(keep: Tensor, new: Tensor, state: Tensor) -> Tensor:
    states = []
    for t in range(len(new)):
        state = keep[t] * state + new[t]
        states.append(state)
    return torch.stack(states)


def gates(length: int) -> list[Tensor]:
    """Logits, new numbers and a state."""
    torch.manual_seed(length)
    shapes = (length, 2, 3), (length, 2, 3), (2, 3)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("length", [*range(1, 10), 16, 17, 100])
def test_scans_are_the_literal_recursion(length: int) -> None:
    logits, new, state = inputs = gates(length)
    keep = torch.sigmoid(logits)
    expected = literal(keep, (1 - keep) * new, state)
    wanted = torch.autograd.grad(expected.square().sum(), inputs, retain_graph=True)
    for found in (
        linear_recurrence(keep, (1 - keep) * new, state),
        unroll_in_place(logits, new, state),
    ):
        torch.testing.assert_close(found, expected)
        reached = torch.autograd.grad(found.square().sum(), inputs, retain_graph=True)
        torch.testing.assert_close(reached, wanted)


def test_units_that_forget_all_or_nothing_do_no_harm() -> None:
    new, state = torch.randn(200, 2, 3), torch.randn(2, 3)
    for logit, expected in ((200.0, state.expand(200, 2, 3)), (-200.0, new)):
        logits = torch.full_like(new, logit).requires_grad_()
        keep = torch.sigmoid(logits)
        for found in (
            linear_recurrence(keep, (1 - keep) * new, state),
            unroll_in_place(logits, new, state),
        ):
            assert torch.equal(found, expected)
            (gradient,) = torch.autograd.grad(found.sum(), logits, retain_graph=True)
            assert gradient.isfinite().all()


@pytest.mark.parametrize("length", [1, 5])
def test_the_recurrence_can_be_differentiated_twice(length: int) -> None:
    logits, new, state = gates(length)
    inputs = (torch.sigmoid(logits).detach().requires_grad_(), new, state)
    assert torch.autograd.gradcheck(linear_recurrence, inputs)
    assert torch.autograd.gradgradcheck(linear_recurrence, inputs)


def test_windows_in_place_stand_back_for_second_derivatives() -> None:
    module = make_memory("min_gru", 4, num_layers=2)
    encoding, weights = torch.randn(3, 5, 4), list(module.parameters())

    def first_derivatives() -> list[Tensor]:
        loss = module.unroll(encoding, module.initial_state(3))[0].sum()
        return list(torch.autograd.grad(loss, weights, create_graph=True))

    with pytest.raises(RuntimeError, match=r"unroll it in second_derivatives\(\)"):
        first_derivatives()
    with second_derivatives():
        outer = sum(gradient.square().sum() for gradient in first_derivatives())
    assert all(gradient.any() for gradient in torch.autograd.grad(outer, weights))


def test_both_ways_give_the_same_features() -> None:
    module = make_memory("min_gru", 4, num_layers=3)
    encoding, state = torch.randn(3, 7, 4), tuple(torch.randn(3, 3, 8).unbind())
    with second_derivatives():
        expected = module.unroll(encoding, state)
    torch.testing.assert_close(module.unroll(encoding, state), expected)


def test_layers_start_orthogonal_and_may_keep_what_they_have() -> None:
    for max_timescale in (None, 50):
        module = make_memory("min_gru", 5, hidden_size=400, max_timescale=max_timescale)
        for layer in module.layers:
            for part in (layer.keep, layer.new):
                assert_orthogonal(part.weight)
            assert not layer.new.bias.any()
            if max_timescale is None:
                assert not layer.keep.bias.any()
                continue
            kept = layer.keep.bias.sigmoid()
            assert 0.5 <= kept.min() < 0.7
            assert (1 / (1 - kept)).mean().item() == pytest.approx(26, abs=2)
