"""The counters of a run, whose numbers are read as rarely as possible."""

import os
import pickle
from copy import deepcopy
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, distributed, nn

from rl2_lightning.data.clock import Clock
from tests.forked import run_ranks

STEPS = torch.tensor(10)


def numbers(clock: Clock) -> tuple[int, int]:
    return clock.iterations, clock.env_steps


def counters(clock: Clock) -> tuple[int, int]:
    return int(clock.iterations_done), int(clock.env_steps_done)


def ticked(times: int) -> Clock:
    clock = Clock()
    for _ in range(times):
        clock.tick(STEPS)
    return clock


def test_it_counts() -> None:
    clock = Clock()
    assert numbers(clock) == counters(clock) == (0, 0)
    clock.tick(STEPS)
    assert numbers(clock) == counters(clock) == (1, 10)
    clock.tick(STEPS)
    clock.tick(STEPS)
    assert numbers(clock) == counters(clock) == (3, 30)


def test_a_restart_is_seen() -> None:
    clock = ticked(2)
    assert numbers(clock) == (2, 20)
    clock.restart()
    assert numbers(clock) == (0, 0)
    clock.tick(STEPS)
    assert numbers(clock) == counters(clock) == (1, 10)


@pytest.mark.parametrize("assign", [False, True])
def test_loading_is_seen(assign: bool) -> None:
    clock, other = ticked(2), ticked(5)
    assert numbers(clock) == (2, 20)
    clock.load_state_dict(other.state_dict(), assign=assign)
    assert numbers(clock) == (5, 50)
    clock.tick(STEPS)
    assert numbers(clock) == counters(clock) == (6, 60)


def test_a_change_of_the_counters_is_seen() -> None:
    clock = ticked(2)
    assert numbers(clock) == (2, 20)
    clock.iterations_done.fill_(7)
    clock.env_steps_done = torch.tensor(70)
    assert numbers(clock) == (7, 70)
    clock.tick(STEPS)
    assert numbers(clock) == counters(clock) == (8, 80)


@pytest.mark.parametrize("copied", [deepcopy, lambda clock: pickle.loads(pickle.dumps(clock))])
def test_a_copy_counts_for_itself(copied) -> None:
    clock = ticked(3)
    assert numbers(clock) == (3, 30)
    clock.env_steps_done.fill_(5)  # not read again before the copy is made
    for times in range(10):  # once as many changes as the clock had when it was read
        other = copied(clock)
        for _ in range(times):
            other.tick(STEPS)
        assert numbers(other) == counters(other) == (3 + times, 5 + 10 * times)
    assert numbers(clock) == (3, 5)


def test_a_copy_that_does_not_count_its_changes() -> None:
    clock = ticked(2)
    with torch.inference_mode():
        other = deepcopy(clock)
        assert numbers(other) == (2, 20)
        other.tick(STEPS)
        assert numbers(other) == counters(other) == (3, 30)


def test_a_counter_is_read_once_for_each_change() -> None:
    clock, reads = ticked(2), []

    def read(counter: Tensor) -> int:
        reads.append(counter)
        return int(counter.tolist())

    with mock.patch.object(Tensor, "__int__", read):
        for _ in range(3):
            assert numbers(clock) == (2, 20)
        assert len(reads) == 1, "the iterations are known"
        clock.tick(STEPS)
        for _ in range(3):
            assert numbers(clock) == (3, 30)
        assert len(reads) == 2


class Counting(nn.Module):
    """A module with a clock and a parameter, as DDP needs one."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.layer = Clock(), nn.Linear(1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


def count_on_two_ranks(rank: int, file: str) -> None:
    """DDP copies the first rank's counters to the others."""
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    counting = Counting()
    for _ in range(2 + rank):
        counting.clock.tick(STEPS)
    assert numbers(counting.clock) == (2 + rank, 20 + 10 * rank)
    replica = nn.parallel.DistributedDataParallel(counting)
    assert numbers(counting.clock) == (2, 20)
    counting.clock.tick(STEPS)
    replica(torch.ones(1, 1))
    assert numbers(counting.clock) == counters(counting.clock) == (3, 30)
    distributed.barrier()
    distributed.destroy_process_group()
    # Gloo's threads may deadlock when their objects are destroyed.
    os._exit(0)


def test_two_ranks_have_the_same_numbers(tmp_path: Path) -> None:
    run_ranks(count_on_two_ranks, str(tmp_path / "meeting"))
