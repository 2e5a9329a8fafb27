"""The steps of GRU and LSTM equal PyTorch's."""

import pytest
import torch
from torch import Tensor

from rl2_lightning.agents import products
from rl2_lightning.agents.memories.memory import State
from tests.agents.recurrent import draw, make, plain_step

KINDS = pytest.mark.parametrize("kind", ["gru", "lstm"])


@KINDS
@torch.no_grad()
def test_a_step_is_pytorchs_step(kind: str) -> None:
    own = make(kind).double()
    encoding, state = draw(own, 3)
    kept = [tensor.clone() for tensor in (encoding, *state)]
    found = own.step(encoding, state)
    torch.testing.assert_close(found, plain_step(own, encoding, state))
    for tensor, before in zip((encoding, *state), kept, strict=True):
        assert torch.equal(tensor, before), "an argument is modified"


@KINDS
@torch.no_grad()
def test_a_step_from_one_state_for_all(kind: str) -> None:
    own = make(kind).double()
    encoding, state = draw(own, 3)
    state = tuple(one[:1].expand(3, -1) for one in state)
    torch.testing.assert_close(own.step(encoding, state), plain_step(own, encoding, state))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@KINDS
@torch.no_grad()
def test_with_the_products_of_onednn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_mkl_leaves_vectors_unused", lambda: True)
    own = make(kind, 48, 64)
    encoding, state = draw(own, 400, 48)
    assert products.prefers_onednn(encoding, next(own.parameters()))
    expected = plain_step(own, encoding, state)
    torch.testing.assert_close(own.step(encoding, state), expected, rtol=1e-4, atol=1e-5)


@KINDS
@torch.no_grad()
def test_under_autocast_products_have_16_bits_and_states_more(kind: str) -> None:
    own = make(kind)
    encoding, state = draw(own, 3)
    with torch.autocast("cpu", torch.bfloat16):
        features, reached = own.step(encoding, state)
    expected, _ = plain_step(own, encoding, state)
    assert {one.dtype for one in (features, *reached)} == {torch.float32}
    torch.testing.assert_close(features, expected, atol=0.02, rtol=0.02)
    assert not torch.equal(features, expected), "nothing was rounded"


@KINDS
def test_an_exported_step_changes_nothing_in_place(kind: str) -> None:
    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = make(kind)

        def forward(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
            return self.memory.step(encoding, state)

    step = Step().eval()
    encoding, state = draw(step.memory, 3)
    with torch.no_grad():
        program = torch.export.export(step, (encoding, state)).run_decompositions()
    # In place operations on columns become a copy of all columns each.
    assert not [node for node in program.graph.nodes if "scatter" in str(node.target)]
    with torch.no_grad():
        torch.testing.assert_close(program.module()(encoding, state), step(encoding, state))
