"""Runs over two nodes, which torchrun starts: both are on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.command_line.program import UNSEEN, run_program
from tests.forked import variables_of_a_shell
from tests.invariants.test_runs import PPO, TINY, assert_same_run

pytestmark = pytest.mark.slow

PATIENCE = 300.0  # seconds
DDP = ("trainer.accelerator=cpu", "trainer.strategy=ddp")
RUN = (*TINY, *PPO, *UNSEEN, *DDP)


def whole_run(folder: Path, *overrides: str) -> Path:
    """The checkpoint of a run of two processes on one node."""
    done = run_program(
        folder, *RUN, *overrides, "trainer.devices=2", f"hydra.run.dir={folder / 'whole'}"
    )
    assert done.returncode == 0, done.stderr
    return folder / "whole" / "last.ckpt"


@contextmanager
def two_nodes(folder: Path, *overrides: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start a run on two nodes with a process each; kills what is left at the end."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2"),
                *(f"--node-rank={node}", "--nproc-per-node=1", "--master-addr=127.0.0.1"),
                *(f"--master-port={port}", str(ROOT / "train.py"), *RUN, *overrides),
                *("trainer.num_nodes=2", "trainer.devices=1"),
            ],
            cwd=folder,
            env=variables_of_a_shell(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in (0, 1)
    ]
    try:
        yield nodes
    finally:
        for node in nodes:
            node.terminate()  # with its ranks; does nothing if it has ended
            node.wait(PATIENCE)


def ranks_of(folder: str) -> dict[int, int]:
    """The processes of a run that are alive, by rank; found by its folder, which they were told."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, StopIteration):
            told = (place / "cmdline").read_text()
            variables = (place / "environ").read_text().split("\0")
            rank = next(one for one in variables if one.startswith("RANK="))
            if folder in told:
                found[int(rank.removeprefix("RANK="))] = int(place.name)
    return found


def test_two_nodes_train_like_two_processes_of_one(tmp_path: Path) -> None:
    with two_nodes(tmp_path, "hydra.run.dir=run") as nodes:
        told = [node.communicate(timeout=PATIENCE)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    assert_same_run(whole_run(tmp_path), tmp_path / "run" / "last.ckpt")
    assert ["mean return of a trial" in text for text in told] == [True, False]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_node_ends_the_other_and_nothing_is_lost(tmp_path: Path, lost: int) -> None:
    long = ("collection.total_env_steps=32000", "trainer.check_val_every_n_epoch=100")
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    last = tmp_path / "run" / "last.ckpt"
    with two_nodes(tmp_path, *long, folder) as nodes:
        while not last.exists():
            assert [node.poll() for node in nodes] == [None, None]
            time.sleep(0.01)
        for pid in (nodes[lost].pid, ranks_of(folder)[lost]):
            os.kill(pid, signal.SIGKILL)
        told = nodes[1 - lost].communicate(timeout=PATIENCE)[0]
    assert nodes[1 - lost].returncode == 1, told
    assert f"resume with ckpt_path={last}" in told
    assert not ranks_of(folder)
    done = run_program(
        tmp_path, f"ckpt_path={last}", "trainer.num_nodes=1", "trainer.devices=2", folder
    )
    assert done.returncode == 0, done.stderr
    assert_same_run(whole_run(tmp_path, *long), last)
