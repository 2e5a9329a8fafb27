"""Ranks come and go."""

from pathlib import Path

import pytest
import torch
from torch import distributed

from rl2_lightning.learners.ranks import leave_other_ranks, over_all_ranks, world_size

THREADS = Path("/proc/self/task")


def threads_of_gloo() -> list[str]:
    names = [path.read_text().strip() for path in THREADS.glob("*/comm")]
    return [name for name in names if "gloo" in name]


@pytest.mark.skipif(not THREADS.exists(), reason="only Linux lists threads as files")
def test_a_rank_that_leaves_takes_its_threads_along(tmp_path: Path) -> None:
    before = threads_of_gloo()
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/a", rank=0, world_size=1)
    torch.testing.assert_close(over_all_ranks(torch.ones(3)), torch.ones(3))
    assert len(threads_of_gloo()) > len(before)
    leave_other_ranks()
    assert threads_of_gloo() == before
    assert world_size() == 1


def test_a_run_of_one_process_has_nobody_to_leave() -> None:
    leave_other_ranks()
    assert world_size() == 1
