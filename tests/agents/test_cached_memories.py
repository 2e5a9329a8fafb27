"""Memories that cache their last steps: what they attend to, and what they forget."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rl2_lightning.agents.memories.gated_transformer import GatedTransformer
from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.agents.memories.snail import SNAIL
from rl2_lightning.errors import UserError
from tests.agents.layers import assert_orthogonal
from tests.builders import make_memory

# Caches shorter than the inputs of these tests, with a length that is not a power of two.
SHORT = {
    "snail": {"max_steps": 5, "num_layers": 2},
    "gated_transformer": {"context": 5, "num_layers": 2},
}


def stepped(module: Memory, encoding: Tensor, state: Any, is_init: Tensor) -> tuple[Tensor, Any]:
    features = []
    for t in range(encoding.shape[1]):
        step, state = module.step(encoding[:, t], module.restart(state, is_init[:, t]))
        features.append(step)
    return torch.stack(features, 1), state


@pytest.mark.parametrize("length", [1, 3, 4, 5, 6, 17])
@pytest.mark.parametrize("memory", SHORT)
def test_windows_longer_than_a_cache_equal_steps(memory: str, length: int) -> None:
    module = make_memory(memory, 4, **SHORT[memory])
    torch.manual_seed(length)
    # Rows at different steps of their trials, some of them past the end of the cache.
    begun = torch.rand(6, 9, 1) < 0.2
    _, state = module.unroll(torch.randn(6, 9, 4), module.initial_state(6), begun)
    assert len(state[0].unique()) > 2
    encoding, is_init = torch.randn(6, length, 4), torch.rand(6, length, 1) < 0.1
    expected, last = stepped(module, encoding, state, is_init)
    found, reached = module.unroll(encoding, state, is_init)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(reached, last)


@pytest.mark.parametrize("memory", SHORT)
def test_rows_at_different_steps_are_as_they_are_alone(memory: str) -> None:
    module = make_memory(memory, 4, **SHORT[memory])
    begun = torch.zeros(4, 7, 1, dtype=torch.bool)
    for row, start in enumerate((0, 3, 5, 6)):
        begun[row, start] = True
    past, encoding = torch.randn(4, 7, 4), torch.randn(4, 3, 4)
    _, state = module.unroll(past, module.initial_state(4), begun)
    assert state[0].flatten().tolist() == [7, 4, 2, 1]
    features, _ = module.unroll(encoding, state)
    for row, start in enumerate((0, 3, 5, 6)):
        trial = torch.cat([past[row, start:], encoding[row]]).unsqueeze(0)
        alone, _ = module.unroll(trial, module.initial_state(1))
        torch.testing.assert_close(features[row], alone[0, -3:])


@pytest.mark.parametrize("memory", SHORT)
def test_the_last_step_of_a_full_cache_sees_the_first(memory: str) -> None:
    module = make_memory(memory, 4, **SHORT[memory])
    encoding = torch.randn(3, 5, 4, requires_grad=True)
    features, _ = module.unroll(encoding, module.initial_state(3))
    (reached,) = torch.autograd.grad(features[:, -1].square().sum(), encoding)
    assert (reached[:, 0] != 0).any(-1).all()


@pytest.mark.parametrize("memory", SHORT)
def test_attention_is_differentiated_twice_only_where_it_is_asked_for(memory: str) -> None:
    module = make_memory(memory, 4, **SHORT[memory])
    encoding = torch.randn(3, 4, 4, requires_grad=True)
    features, _ = module.unroll(encoding, module.initial_state(3))
    (first,) = torch.autograd.grad(features.square().sum(), encoding, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(first.square().sum(), encoding)


def test_a_layer_of_the_transformer_forgets_what_is_beyond_its_context() -> None:
    for num_layers in (1, 2):
        module = make_memory("gated_transformer", 4, context=3, num_layers=num_layers)
        encoding = torch.randn(2, 9, 4, requires_grad=True)
        features, _ = module.unroll(encoding, module.initial_state(2))
        (reached,) = torch.autograd.grad(features[:, -1].square().sum(), encoding)
        sees = (reached != 0).any(-1).all(0)
        # Each layer looks two steps further back.
        assert sees.tolist() == [t >= 8 - 2 * num_layers for t in range(9)]


def test_the_transformer_knows_distances_and_nothing_else_of_time() -> None:
    module = make_memory("gated_transformer", 4, context=3, num_layers=1)
    encoding = torch.randn(2, 12, 4)
    encoding[:, 9:12] = encoding[:, 2:5]
    features, _ = module.unroll(encoding, module.initial_state(2))
    torch.testing.assert_close(features[:, 11], features[:, 4])
    encoding[:, 9:11] = encoding[:, 9:11].flip(1)
    other, _ = module.unroll(encoding, module.initial_state(2))
    assert ((other[:, 11] - features[:, 11]).abs().amax(-1) > 1e-4).all(), "their order is seen"


def test_the_transformer_begins_near_the_identity() -> None:
    module = make_memory("gated_transformer", 4, hidden_size=64, num_layers=1)
    encoding = torch.randn(50, 10, 4)
    stream = module.first(encoding)
    gates = [module.layers[0].gate, module.layers[0].feed_forward_gate]
    assert all((gate.bias == 2).all() for gate in gates)

    def change(bias: float) -> float:
        for gate in gates:
            gate.bias.data.fill_(bias)
        features, _ = module.unroll(encoding, module.initial_state(50))
        return ((features - stream).norm() / stream.norm()).item()

    assert change(50) < 1e-6
    assert 0.1 < change(2) < 0.5 < 0.8 < change(0)


def test_layers_of_the_transformer_start_orthogonal() -> None:
    module = GatedTransformer(5, hidden_size=8, num_heads=2, num_layers=1)
    (layer,) = module.layers
    for part in (*layer.query_key.weight.split(8), layer.value.weight, layer.output.weight):
        assert_orthogonal(part)
    for part in (*layer.gate.of_output.weight.split(8), *layer.gate.of_stream.weight.split(8)):
        assert_orthogonal(part)


def literal_snail(module: SNAIL, encoding: Tensor) -> Tensor:
    """The paper's equations, by PyTorch's convolution, over a trial `[B, T, I]`."""
    channels = module.first(encoding)
    for number, block in enumerate(module.blocks):
        dilation = 2 ** (number % (len(module.blocks) // module.settings.num_layers))
        now, later = block.taps.weight.chunk(2)
        kernel, bias = torch.stack([later, now], -1), block.taps.bias.chunk(2)
        assert not bias[1].any()
        padded = functional.pad(channels.transpose(1, 2), (dilation, 0))
        filters, gates = functional.conv1d(padded, kernel, bias[0], dilation=dilation).chunk(2, 1)
        new = torch.tanh(filters) * torch.sigmoid(gates)
        channels = torch.cat([channels, new.transpose(1, 2)], -1)
    scores = module.query(channels) @ module.key(channels).transpose(1, 2)
    scores = scores / module.settings.key_size**0.5
    future = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    return torch.cat([channels, weights @ module.value(channels)], -1)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("max_steps", [2, 10, 16])
def test_snail_is_convolutions_and_attention(max_steps: int, num_layers: int) -> None:
    module = make_memory("snail", 4, max_steps=max_steps, num_layers=num_layers)
    encoding = torch.randn(3, max_steps, 4)
    found, _ = module.unroll(encoding, module.initial_state(3))
    torch.testing.assert_close(found, literal_snail(module, encoding))


@pytest.mark.parametrize(("max_steps", "num_blocks"), [(2, 1), (10, 4), (100, 7), (1000, 10)])
def test_snail_is_as_in_the_paper(max_steps: int, num_blocks: int) -> None:
    module = SNAIL(8, max_steps=max_steps)
    assert len(module.blocks) == 2 * num_blocks
    assert module.output_size == 32 + 2 * num_blocks * 32 + 32


def test_trials_that_snail_cannot_hold() -> None:
    module = make_memory("snail", 4, max_steps=10)
    module.require_steps(10)
    told = r"^memory.max_steps=10 is less than the 11 env steps of a trial: train with memory.max_"
    with pytest.raises(UserError, match=told):
        module.require_steps(11)
    make_memory("gated_transformer", 4, context=10).require_steps(11)


@pytest.mark.parametrize(
    ("width", "heads", "other"), [(64, 5, 60), (12, 4, 16), (2, 4, 8), (63, 1, 64)]
)
def test_widths_that_do_not_divide_into_heads(width: int, heads: int, other: int) -> None:
    told = (
        rf"^memory.hidden_size={width} does not divide into memory.num_heads={heads} of an even "
        rf"width: set memory.hidden_size={other}$"
    )
    with pytest.raises(UserError, match=told):
        make_memory("gated_transformer", 4, hidden_size=width, num_heads=heads)
    make_memory("gated_transformer", 4, hidden_size=other, num_heads=heads)
