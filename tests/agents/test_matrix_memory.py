"""The matrix memory: chunks equal single steps, and time and memory are linear."""

import pytest
import torch
from torch import Tensor

from rl2_lightning.agents.memories.linear_attention import (
    CHUNK,
    write_and_read,
    write_and_read_all,
)
from rl2_lightning.agents.memories.matrix import MatrixMemory
from rl2_lightning.agents.memories.memory import features_only
from rl2_lightning.errors import UserError


def literal(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The literal recursion, step by step."""
    reads = []
    for t in range(query.shape[2]):
        written = torch.einsum("bgd,bge->bgde", key[:, :, t], value[:, :, t])
        state = log_decay.exp()[:, None, None] * state + written
        reads.append(torch.einsum("bgd,bgde->bge", query[:, :, t], state))
    return torch.stack(reads, dim=2), state


def draws(num_steps: int, num_heads: int = 2) -> list[Tensor]:
    """Query, key, value, decay and state, float64, which require gradients."""
    torch.manual_seed(num_steps)
    shape = (3, num_heads, num_steps, 4)
    parts = [torch.randn(shape, dtype=torch.float64) for _ in range(3)]
    log_decay = -torch.rand(num_heads, dtype=torch.float64)
    state = torch.randn(3, num_heads, 4, 4, dtype=torch.float64)
    return [part.requires_grad_() for part in (*parts, log_decay, state)]


@pytest.mark.parametrize("num_chunks", [1, 2])
def test_where_only_features_are_needed_the_last_chunk_is_not_written(num_chunks: int) -> None:
    inputs = draws(num_chunks * CHUNK)
    reads, _ = write_and_read_all(*inputs)
    with features_only():
        alone, state = write_and_read_all(*inputs)
    assert torch.equal(alone, reads)
    assert (state is inputs[-1]) is (num_chunks == 1)


@pytest.mark.parametrize("num_steps", [2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_chunks_are_the_literal_recursion(num_steps: int) -> None:
    inputs = draws(num_steps)
    found, expected = write_and_read_all(*inputs), literal(*inputs)
    weights = torch.randn_like(found[0])
    gradients = [
        torch.autograd.grad((read * weights).sum() + state.square().sum(), inputs)
        for read, state in (found, expected)
    ]
    for ours, theirs in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("num_steps", [5, CHUNK + 1])
def test_nothing_is_read_of_an_empty_matrix(num_steps: int) -> None:
    *inputs, state = draws(num_steps)
    empty = torch.zeros_like(state)
    found = write_and_read_all(*inputs, empty)
    expected = literal(*inputs, empty)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_is_the_literal_recursion() -> None:
    query, key, value, log_decay, state = draws(1)
    expected, reached = literal(query, key, value, log_decay, state)
    parts = (part.squeeze(2) for part in (query, key, value))
    found, after = write_and_read(*parts, log_decay, state)
    torch.testing.assert_close(found, expected.squeeze(2))
    torch.testing.assert_close(after, reached)


def test_what_a_gradient_needs_grows_with_the_steps_and_not_with_their_square() -> None:
    def numbers(num_steps: int) -> int:
        """The number of elements saved for the backward pass."""
        memory, kept = MatrixMemory(3, hidden_size=8, num_layers=1), 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            memory.unroll(torch.randn(2, num_steps, 3), memory.initial_state(2))
        return kept

    short, long = numbers(10 * CHUNK), numbers(20 * CHUNK)
    assert long < 2.05 * short


@pytest.mark.parametrize("num_heads", [1, 4])
def test_heads_begin_with_halving_timescales(num_heads: int) -> None:
    memory = MatrixMemory(3, hidden_size=8, num_layers=1, num_heads=num_heads, max_timescale=80)
    (decay,) = (p for name, p in memory.named_parameters() if name.endswith("decay"))
    timescales = 1 / (1 - decay.sigmoid())
    torch.testing.assert_close(timescales, torch.tensor([80.0, 40, 20, 10][:num_heads]))


def test_no_timescale_is_too_short_to_learn_from() -> None:
    memory = MatrixMemory(3, hidden_size=8, num_layers=1, num_heads=8, max_timescale=3)
    (decay,) = (p for name, p in memory.named_parameters() if name.endswith("decay"))
    torch.testing.assert_close(decay.sigmoid(), torch.full((8,), 2 / 3))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"hidden_size": 9, "num_heads": 2},
            "memory.hidden_size=9 does not divide into memory.num_heads=2: set "
            "memory.hidden_size=8",
        ),
        (
            {"hidden_size": 90, "num_heads": 3},
            "memory.matrix_size=64 does not divide into memory.num_heads=3: set "
            "memory.matrix_size=63",
        ),
        (
            {"matrix_size": 3, "num_heads": 16},
            "memory.matrix_size=3 does not divide into memory.num_heads=16: set "
            "memory.matrix_size=16",
        ),
    ],
)
def test_a_width_that_heads_do_not_divide(settings: dict[str, int], told: str) -> None:
    with pytest.raises(UserError) as raised:
        MatrixMemory(3, **settings)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"hidden_size": 32}, (1, 32, 32)),
        ({"hidden_size": 128, "num_heads": 2}, (2, 32, 32)),
        ({"hidden_size": 16, "matrix_size": 48, "num_heads": 3}, (3, 16, 16)),
    ],
)
def test_the_matrices_have_a_size_of_their_own(
    settings: dict[str, int], shape: tuple[int, ...]
) -> None:
    memory = MatrixMemory(3, num_layers=2, **settings)
    assert [matrix.shape for matrix in memory.initial_state(5)] == [(5, *shape)] * 2
    features, state = memory.unroll(torch.randn(5, 4, 3), memory.initial_state(5))
    assert features.shape == (5, 4, settings["hidden_size"])
    assert [matrix.shape for matrix in state] == [(5, *shape)] * 2


def test_under_autocast_it_still_adds_up_in_float32() -> None:
    memory = MatrixMemory(3, hidden_size=8)
    encoding = torch.randn(2, 70, 3)
    exact, _ = memory.unroll(encoding, memory.initial_state(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, state = memory.unroll(encoding, memory.initial_state(2))
        steps, before = [], memory.initial_state(2)
        for t in range(70):
            step, before = memory.step(encoding[:, t], before)
            steps.append(step)
    assert not torch.equal(found, exact), "the layers round"
    assert all(matrix.dtype == torch.float32 for matrix in (*state, *before))
    for one, other in zip(state, before, strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)
    torch.testing.assert_close(torch.stack(steps, 1), found, atol=0.1, rtol=0.1)


def test_gradients_of_nothing_are_bounded() -> None:
    # A reward of zero, without a bias: keys have no direction.
    memory = MatrixMemory(1, hidden_size=8)
    encoding = torch.zeros(2, 5, 1, requires_grad=True)
    features, _ = memory.unroll(encoding, memory.initial_state(2))
    features.sum().backward()
    gradients = [encoding.grad, *(parameter.grad for parameter in memory.parameters())]
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e6
