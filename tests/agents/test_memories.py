"""Initial weights of memories, and second derivatives on request."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from rl2_lightning.agents.memories.memory import (
    Memory,
    State,
    features_only,
    find_memory,
    second_derivatives,
    wants_second_derivatives,
    wants_state,
)
from tests.agents.layers import assert_orthogonal
from tests.builders import MEMORIES, make_memory

NUM_GATES = {"gru": 3, "lstm": 4}


def recurrent(module: Memory) -> nn.RNNBase:
    """PyTorch's own module within a memory."""
    (found,) = (one for one in module.modules() if isinstance(one, nn.RNNBase))
    return found


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_state_keeps_its_shapes(memory: str) -> None:
    module = make_memory(memory, 4, num_layers=2)
    state = module.initial_state(3)
    shapes = [tensor.shape for tensor in state]
    assert all(shape[0] == 3 for shape in shapes)
    for _ in range(4):
        features, state = module.step(torch.randn(3, 4), state)
        assert [tensor.shape for tensor in state] == shapes
        assert features.shape == (3, module.output_size)
    features, state = module.unroll(torch.randn(3, 7, 4), state)
    assert [tensor.shape for tensor in state] == shapes
    assert features.shape == (3, 7, module.output_size)


@pytest.mark.parametrize("memory", MEMORIES)
def test_only_rows_that_restart_are_emptied(memory: str) -> None:
    module = make_memory(memory, 4, num_layers=2)
    _, state = module.unroll(torch.randn(3, 5, 4), module.initial_state(3))
    rows = torch.tensor([[True], [False], [True]])
    restarted = module.restart(state, rows)
    for found, kept, empty in zip(restarted, state, module.initial_state(3), strict=True):
        assert torch.equal(found[[0, 2]], empty[[0, 2]])
        assert torch.equal(found[1], kept[1])


@pytest.mark.parametrize("memory", MEMORIES)
def test_trials_do_not_reach_each_other(memory: str) -> None:
    module = make_memory(memory, 4)
    encoding = torch.randn(3, 5, 4)
    changed = encoding.clone()
    changed[1, 2] += 1
    features, _ = module.unroll(encoding, module.initial_state(3))
    other, _ = module.unroll(changed, module.initial_state(3))
    same = (features == other).all(-1)
    assert same[[0, 2]].all(), "other rows"
    assert same[1, :2].all(), "earlier steps"
    assert not same[1, 2:].any()


@pytest.mark.parametrize("memory", MEMORIES)
def test_features_do_not_depend_on_whether_the_state_is_used(memory: str) -> None:
    module = make_memory(memory, 4)
    encoding = torch.randn(3, 3, 4)
    features, state = module.unroll(encoding, module.initial_state(3))
    with features_only():
        alone, _ = module.unroll(encoding, module.initial_state(3))
        assert not wants_state()
    assert wants_state()
    assert torch.equal(alone, features)
    again, _ = module.unroll(encoding, state)
    assert not torch.equal(again, features), "outside, the state is that after the window"
    is_init = torch.zeros(3, 3, 1, dtype=torch.bool)
    is_init[1, 2] = True
    features, _ = module.unroll(encoding, state, is_init)
    with features_only():
        alone, _ = module.unroll(encoding, state, is_init)
    assert torch.equal(alone, features), "a state within the window is always used"


@pytest.mark.parametrize("memory", ["matrix", "snail", "gated_transformer", "episodic_planning"])
def test_large_states_of_trials_that_begin_are_in_memory_once(memory: str) -> None:
    state = make_memory(memory, 4).initial_state(50)
    assert all(tensor.stride(0) == 0 and len(tensor) == 50 for tensor in state)


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_is_not_a_number_reaches_no_earlier_step(memory: str) -> None:
    module = make_memory(memory, 4, num_layers=2)
    encoding = torch.randn(3, 5, 4)
    broken = encoding.clone()
    broken[1, 2] = torch.nan
    features, _ = module.unroll(encoding, module.initial_state(3))
    found, _ = module.unroll(broken, module.initial_state(3))
    assert torch.equal(found[[0, 2]], features[[0, 2]])
    assert torch.equal(found[1, :2], features[1, :2])
    assert found[1, 2].isnan().any(), "NaN remains visible at its own step"


@pytest.mark.parametrize("memory", MEMORIES)
def test_under_autocast_a_state_keeps_its_dtypes(memory: str) -> None:
    module = make_memory(memory, 4, num_layers=2)
    encoding, state = torch.randn(3, 5, 4), module.initial_state(3)
    dtypes = [tensor.dtype for tensor in state]
    assert set(dtypes) <= {torch.float32, torch.int64}
    with torch.autocast("cpu", torch.bfloat16):
        features, reached = module.unroll(encoding, state)
        assert [tensor.dtype for tensor in reached] == dtypes
        for t in range(5):
            step, state = module.step(encoding[:, t], state)
            assert [tensor.dtype for tensor in state] == dtypes
            torch.testing.assert_close(step.float(), features[:, t].float(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("memory", NUM_GATES)
def test_a_state_keeps_its_dtype_whatever_a_kernel_returns(
    monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    module = make_memory(memory, 4)
    inner, cell = recurrent(module), getattr(torch, f"{memory}_cell")
    forward = inner.forward

    def rounded(kernel, *given):
        """As on a GPU under autocast."""
        return tree_map(lambda tensor: tensor.bfloat16(), kernel(*given))

    monkeypatch.setattr(torch, f"{memory}_cell", partial(rounded, cell))
    monkeypatch.setattr(inner, "forward", partial(rounded, forward))
    _, state = module.step(torch.randn(3, 4), module.initial_state(3))
    with torch.no_grad():
        features, reached = module.unroll(torch.randn(3, 5, 4), module.initial_state(3))
    assert features.dtype == torch.bfloat16
    assert {one.dtype for one in (*state, *reached)} == {torch.float32}


class OneStep(nn.Module):
    """A step of a memory as a module's only method."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        return self.memory.step(encoding, state)


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_step_can_be_exported(memory: str) -> None:
    module = make_memory(memory, 4)
    rows = {0: torch.export.Dim("rows", min=1)}
    with torch.no_grad():
        _, state = module.unroll(torch.randn(3, 2, 4), module.initial_state(3))
        shapes = (rows, tuple(rows for _ in state))
        exported = torch.export.export(
            OneStep(module), (torch.randn(3, 4), state), dynamic_shapes=shapes
        ).module()
        for num in (1, 5):
            encoding = torch.randn(num, 2, 4)
            _, state = module.unroll(encoding, module.initial_state(num))
            found = exported(encoding[:, 0], state)
            torch.testing.assert_close(found, module.step(encoding[:, 0], state))


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_memory_is_found_by_its_kind(memory: str) -> None:
    assert find_memory(MEMORIES[memory].kind()) is MEMORIES[memory]


@pytest.mark.parametrize("memory", NUM_GATES)
def test_gated_memories_start_orthogonal_gate_by_gate(memory: str) -> None:
    module = make_memory(memory, 5, num_layers=2)
    seen = 0
    for name, parameter in recurrent(module).named_parameters():
        if name.startswith("bias"):
            assert not parameter.any()
            continue
        gates = parameter.split(module.output_size)
        assert len(gates) == NUM_GATES[memory]
        for gate in gates:
            assert_orthogonal(gate)
        assert not torch.equal(gates[0], gates[1])
        seen += 1
    assert seen == 2 * 2, "two weights a layer, two layers"


@pytest.mark.parametrize("memory", NUM_GATES)
def test_gated_memories_may_start_with_units_that_keep_what_they_have(memory: str) -> None:
    module = recurrent(make_memory(memory, 5, hidden_size=400, num_layers=2, max_timescale=50))
    for layer in range(2):
        assert not getattr(module, f"bias_hh_l{layer}").any()
        first, keeping, *others = getattr(module, f"bias_ih_l{layer}").split(400)
        assert not torch.stack(others).any()
        assert torch.equal(first, -keeping if memory == "lstm" else torch.zeros(400))
        # The share of its state that a unit keeps in a step: e^-1 of it remains after about that
        # many.
        kept = keeping.sigmoid()
        assert 0.5 <= kept.min() < 0.7
        assert 1 - 1 / 45 < kept.max() <= 1 - 1 / 50 + 1e-6
        assert (1 / (1 - kept)).mean().item() == pytest.approx(26, abs=2)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("memory", MEMORIES)
def test_second_derivatives_are_those_of_differences(memory: str, num_layers: int) -> None:
    sizes = {"hidden_size": 4, "num_layers": num_layers, "context": 4, "max_steps": 4}
    sizes["max_transitions"] = 3
    module = make_memory(memory, 3, **sizes).double()
    encoding = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    # Counters cannot be differentiated.
    state = tuple(
        torch.randn_like(tensor, dtype=torch.float64).requires_grad_()
        if tensor.is_floating_point()
        else tensor + 2
        for tensor in module.initial_state(2)
    )

    def unrolled(encoding: Tensor, *state: Tensor) -> Tensor:
        with second_derivatives():
            return module.unroll(encoding, state)[0]

    assert torch.autograd.gradgradcheck(unrolled, (encoding, *state))


@pytest.mark.parametrize("memory", NUM_GATES)
def test_second_derivatives_are_those_of_pytorchs_own(memory: str) -> None:
    module = make_memory(memory, 3, num_layers=2)
    encoding, state = torch.randn(2, 5, 3), module.initial_state(2)

    def by_ours() -> Tensor:
        with second_derivatives():
            return module.unroll(encoding, state)[0]

    def curvature(make_features) -> list[Tensor]:
        """The gradient of a gradient's norm, as for a learner that differentiates an update."""
        weights = list(module.parameters())
        first = torch.autograd.grad(make_features().square().mean(), weights, create_graph=True)
        return list(torch.autograd.grad(sum(g.square().sum() for g in first), weights))

    expected = curvature(lambda: recurrent(module)(encoding)[0])
    for found, other in zip(curvature(by_ours), expected, strict=True):
        assert found.any()
        torch.testing.assert_close(found, other)


def test_second_derivatives_end_with_their_context() -> None:
    assert not wants_second_derivatives()
    with second_derivatives():
        assert wants_second_derivatives()

    @second_derivatives()
    def break_down() -> None:
        assert wants_second_derivatives()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        break_down()
    assert not wants_second_derivatives()
