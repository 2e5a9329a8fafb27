"""Episodic planning: stored transitions, reads, and memory use."""

import pytest
import torch
from torch import Tensor

from rl2_lightning.agents.memories.episodic_planning import CHUNK, NUM_HEADS, EpisodicPlanning
from rl2_lightning.errors import UserError


def make(input_size: int = 4, **settings: int) -> EpisodicPlanning:
    torch.manual_seed(0)
    return EpisodicPlanning(input_size, **{"hidden_size": 16, **settings})


def reaches(memory: EpisodicPlanning, length: int, at: int) -> list[int]:
    """The steps whose features change with the encoding of one step."""
    encoding = torch.randn(1, length, 4)
    changed = encoding.clone()
    changed[0, at] += 1
    with torch.no_grad():
        features, other = (
            memory.unroll(one, memory.initial_state(1))[0] for one in (encoding, changed)
        )
    return (features != other).any(-1)[0].nonzero().flatten().tolist()


@pytest.mark.parametrize("num_kept", [1, 3])
def test_the_last_transitions_are_kept_and_no_other(num_kept: int) -> None:
    # An encoding is the end of one transition and the start of the next.
    assert reaches(make(max_transitions=num_kept), 12, at=4) == list(range(4, 4 + num_kept + 1))


@pytest.mark.parametrize("length", [CHUNK, CHUNK + 7, 2 * CHUNK + 1])
@pytest.mark.parametrize("num_kept", [5, CHUNK + 20])
def test_a_window_of_several_chunks_is_stepped_through(length: int, num_kept: int) -> None:
    memory = make(max_transitions=num_kept)
    encoding = torch.randn(3, length, 4)
    with torch.no_grad():
        _, state = memory.unroll(torch.randn(3, 9, 4), memory.initial_state(3))
        # One row has no transitions yet, unlike the others.
        state = memory.restart(state, torch.tensor([[False], [True], [False]]))
        found, reached = memory.unroll(encoding, state)
        for t in range(length):
            features, state = memory.step(encoding[:, t], state)
            torch.testing.assert_close(found[:, t], features)
    for one, other in zip(reached, state, strict=True):
        torch.testing.assert_close(one, other)


def saved_numbers(memory: EpisodicPlanning, length: int) -> int:
    """The number of elements that a window saves for the backward pass."""
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        memory.unroll(torch.randn(2, length, 4), memory.initial_state(2))
    return kept


def test_cost_is_linear_in_the_window() -> None:
    memory = make(max_transitions=20)
    short, long = (saved_numbers(memory, chunks * CHUNK) for chunks in (10, 40))
    assert long == pytest.approx(4 * short, rel=0.05)


def test_at_first_it_looks_for_what_is_alike() -> None:
    symbols = torch.eye(8)
    memory = make(8, hidden_size=64)
    with torch.no_grad():
        embedding = memory.embedding(symbols)
        pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
        ends = torch.cat([embedding[pairs[:, 0]], embedding[pairs[:, 1]]], dim=1)
        keys = memory.key(memory.transition(ends)).unflatten(-1, (NUM_HEADS, -1))
        for here in range(8):
            where_to = 3 if here != 3 else 4
            token = torch.cat([embedding[here], embedding[where_to], torch.zeros(32)])
            query = memory.query(memory.token(token)).unflatten(-1, (NUM_HEADS, -1))
            likeness = (keys * query).sum(-1)
            for head, (sought, end) in enumerate(
                [(here, 0), (here, 1), (where_to, 0), (where_to, 1)]
            ):
                is_alike = pairs[:, end] == sought
                assert likeness[is_alike, head].mean() > 2 * likeness[~is_alike, head].mean().abs()


def test_more_iterations_read_further() -> None:
    encoding = torch.randn(2, 9, 4)
    features = []
    for number in (1, 2, 3):
        memory = make(num_iterations=number)
        features.append(memory.unroll(encoding, memory.initial_state(2))[0])
    assert sum(p.numel() for p in make(num_iterations=1).parameters()) == sum(
        p.numel() for p in make(num_iterations=3).parameters()
    )
    assert not torch.allclose(features[0], features[1])
    assert not torch.allclose(features[1], features[2])


def test_a_width_that_does_not_divide() -> None:
    told = "^memory.hidden_size=30 does not divide into 4 heads: set memory.hidden_size=32$"
    with pytest.raises(UserError, match=told):
        make(hidden_size=30)
