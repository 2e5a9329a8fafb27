"""Windows and steps of GRU and LSTM within `recorded()` equal PyTorch's."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.lstm import LSTM
from rl2_lightning.agents.memories.memory import State, second_derivatives
from rl2_lightning.cuda_graphs import is_recorded, recorded
from tests.agents.recurrent import draw, make, names_of, plain_step, plain_window
from tests.waiting import WAITING, Watch

KINDS = pytest.mark.parametrize("kind", ["gru", "lstm"])
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """The equations as they are written: to compile them takes seconds."""
    with torch.compiler.set_stance("force_eager"):
        yield


def results(features: Tensor, last: State, inputs: list[Tensor]) -> list[Tensor]:
    """All that is computed: features, states and gradients."""
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    loss = (features * weights).sum()
    loss = loss + sum((number + 1) * part.square().sum() for number, part in enumerate(last))
    return [features, *last, *torch.autograd.grad(loss, inputs)]


def require_equal(own: GRU | LSTM, encoding: Tensor, state: State) -> None:
    inputs = [one for one in (encoding, *state, *own.parameters()) if one.requires_grad]
    with recorded():
        features, last = own.unroll(encoding, state)
    assert is_fused(features)
    found = results(features, last, inputs)
    expected = results(*plain_window(own, encoding, state), inputs)
    torch.testing.assert_close(found, expected, **CLOSE)


def is_fused(features: Tensor) -> bool:
    return bool({"_FusedGRUBackward", "_FusedLSTMBackward"} & names_of(features))


def window(own: GRU | LSTM, num: int = 3, length: int = 6) -> tuple[Tensor, State]:
    _, state = draw(own, num)
    encoding = torch.randn(num, length, 5, dtype=state[0].dtype, requires_grad=True)
    return encoding, tuple(one.requires_grad_() for one in state)


@pytest.mark.usefixtures("uncompiled")
@KINDS
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("length", [1, 6])
def test_a_window_is_pytorchs_window(kind: str, num_layers: int, length: int) -> None:
    own = make(kind, num_layers=num_layers).double()
    require_equal(own, *window(own, length=length))


@pytest.mark.usefixtures("uncompiled")
@KINDS
def test_a_window_from_an_empty_state_without_gradients_of_what_is_given(kind: str) -> None:
    own = make(kind).double()
    state = tuple(one.double() for one in own.initial_state(3))
    require_equal(own, torch.randn(3, 6, 5, dtype=torch.float64), state)


@pytest.mark.usefixtures("uncompiled")
@KINDS
def test_a_window_of_any_layout(kind: str) -> None:
    own = make(kind).double()
    encoding, state = window(own)
    shared = tuple(one[:1].expand(3, -1) for one in state)
    turned = encoding.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    inputs = [turned, *own.parameters()]
    with recorded():
        found = own.unroll(turned, shared)
    expected = plain_window(own, turned, shared)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    # The gradient of a sum is one number for all.
    gradients = [torch.autograd.grad(features.sum(), inputs) for features, _ in (found, expected)]
    torch.testing.assert_close(*gradients, **CLOSE)


@pytest.mark.usefixtures("uncompiled")
@KINDS
@torch.no_grad()
def test_a_step_is_pytorchs_step(kind: str) -> None:
    own = make(kind).double()
    encoding, state = draw(own, 3)
    with recorded():
        found = own.step(encoding, state)
    torch.testing.assert_close(found, plain_step(own, encoding, state), **CLOSE)


@pytest.mark.usefixtures("uncompiled")
@KINDS
def test_nothing_waits_for_the_device(kind: str) -> None:
    own = make(kind).double()
    encoding, state = window(own)
    with Watch() as watch, recorded():
        features, _ = own.unroll(encoding, state)
        torch.autograd.grad(features.square().sum(), list(own.parameters()))
        with torch.no_grad():
            own.step(encoding[:, 0], state)
    assert {"mm", "tanh", "copy_"} <= watch.seen
    assert not watch.seen & WAITING


@pytest.mark.usefixtures("uncompiled")
@KINDS
def test_it_stands_back_for_second_derivatives_and_has_none(kind: str) -> None:
    own = make(kind).double()
    encoding, state = window(own)
    with recorded():
        with second_derivatives():
            assert not is_fused(own.unroll(encoding, state)[0])
        features, _ = own.unroll(encoding, state)
    # A sum has a constant gradient, with which PyTorch would not detect a mistake.
    with pytest.raises(RuntimeError, match=r"unroll it in second_derivatives\(\)"):
        torch.autograd.grad(features.sum(), list(own.parameters()), create_graph=True)


@KINDS
def test_it_is_used_only_for_what_is_recorded(kind: str) -> None:
    own = make(kind).double()
    encoding, state = window(own)
    with recorded():
        assert is_recorded()
    assert not is_recorded()
    assert not is_fused(own.unroll(encoding, state)[0])
    counters.clear()
    with torch.no_grad():
        own.step(encoding[:, 0], state)
    assert not counters["stats"]


@pytest.mark.slow
@KINDS
def test_compiled_once_for_all_steps(kind: str) -> None:
    torch._dynamo.reset()
    counters.clear()
    own = make(kind, num_layers=2).double()
    for _ in range(2):
        encoding, state = window(own)
        require_equal(own, encoding, state)
        with recorded(), torch.no_grad():
            found = own.step(encoding[:, 0], state)
        torch.testing.assert_close(found, plain_step(own, encoding[:, 0], state), **CLOSE)
    assert counters["stats"]["unique_graphs"] == 3  # forward, backward and the step
    # After a change of the number of trials and of steps these may be anything.
    require_equal(own, *window(own, num=5, length=4))
    compiled = counters["stats"]["unique_graphs"]
    for num, length in ((7, 3), (9, 8)):
        require_equal(own, *window(own, num, length))
    assert counters["stats"]["unique_graphs"] <= compiled + 2
    assert not counters["graph_break"]
