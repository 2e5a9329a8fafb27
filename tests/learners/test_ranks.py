"""All ranks log the same diagnostics of an iteration, and leave without errors."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed

from rl2_lightning import keys
from rl2_lightning.learners.ranks import leave_other_ranks, over_all_ranks, together, world_size
from tests.builders import as_minibatch, collect, corridor_trials, make_agent, make_learner
from tests.forked import run_ranks

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


def fail_alone(file: Path) -> None:
    """A run of one rank that fails."""
    with together():
        distributed.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
        raise ZeroDivisionError


def test_a_failed_run_leaves_no_group_to_the_next_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with pytest.raises(ZeroDivisionError):
            fail_alone(tmp_path / name)
    assert not distributed.is_initialized()


def test_a_run_of_one_process_has_nobody_to_leave() -> None:
    leave_other_ranks()
    assert world_size() == 1


def learn_unevenly(rank: int, folder: str) -> None:
    """An iteration that stops at its second minibatch; rank 0's first one contains no step."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/ranks",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    env = corridor_trials(6)
    learner = make_learner(make_agent(env), env, target_kl=0.01)
    prepared = learner.prepare(collect(env, learner, seed=1 + rank), [0])
    minibatch = as_minibatch(learner, env, prepared)
    if rank == 0:
        mask = minibatch[keys.WINDOW, keys.MASK]
        minibatch[keys.WINDOW, keys.MASK] = torch.zeros_like(mask)
    assert learner.training_step(minibatch, 0).grad_fn is not None
    old = minibatch[keys.WINDOW, keys.ACTION_LOG_PROB]
    minibatch[keys.WINDOW, keys.ACTION_LOG_PROB] = old - 0.5
    assert learner.training_step(minibatch, 1).grad_fn is None
    noted = {name: torch.stack(values) for name, values in learner._diagnostics.items()}
    logged: dict[str, torch.Tensor] = {}
    learner._uses_log = True
    learner.log_dict = logged.update
    learner.on_train_epoch_end()
    torch.save((noted, logged), f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    # Gloo's threads may deadlock when their objects are destroyed.
    os._exit(0)


def test_ranks_tell_the_same_names_of_an_iteration_that_stops_early(tmp_path: Path) -> None:
    run_ranks(learn_unevenly, str(tmp_path))
    (noted, logged), (others, others_logged) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert noted.keys() == {"return", "explained_variance"}
    assert noted.keys() < others.keys()
    counts = {"train/env_steps", "step"}
    named = {f"train/{name}" for name in others}
    assert logged.keys() == others_logged.keys() == named | counts
    for name, values in others.items():
        expected = torch.cat([noted[name], values]) if name in noted else values
        for told in (logged, others_logged):
            torch.testing.assert_close(told[f"train/{name}"], expected.mean().item(), msg=name)
