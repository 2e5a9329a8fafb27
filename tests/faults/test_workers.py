"""Worker processes: what goes wrong in one is told, and none outlives the run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl2_lightning.checkpoint import Checkpoint
from tests.builders import ROOT
from tests.command_line.program import SMALL, run_program

LEAVING = "tests.families.gymnasium.envs:Leaving"
# One more iteration than the first, in which an environment plays 2 episodes of 6 steps.
IN_SECOND_ITERATION = 14
# A process that plays in workers, and then ends in one of several ways.
PLAYS = """
import os, signal, sys, time
import torch
from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium import GymnasiumTasks

folder, end, fault = sys.argv[1:]
env = GymnasiumTasks(
    4, execution=Execution("process", 2, 1000.0), id="tests.families.gymnasium.envs:Leaving",
    kwargs={"folder": folder, "fault": fault}, horizon=6, tasks=[1.0, 2.0], task_by="method",
)
env.reset()
if end == "close":
    env.close()
if end == "error":
    raise ValueError
if end == "exit":
    sys.exit(3)
if end == "os_exit":
    os._exit(4)
(open(os.path.join(folder, "ready"), "w")).close()
env.play(torch.ones(4, dtype=torch.int64), torch.ones(4, 1, dtype=torch.bool))
time.sleep(1000 if end == "killed" else 0)
"""


def pids_in(folder: Path) -> list[int]:
    return [int(file.name) for file in folder.iterdir() if file.name.isdigit()]


def require_gone(pids: list[int]) -> None:
    """Wait until the processes have ended; they may be a moment behind their parent."""
    deadline = time.monotonic() + 10
    left = pids
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if is_alive(pid)]
        time.sleep(0.05)
    assert not left


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that nobody has waited for is no longer running.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def train(tmp_path: Path, *overrides: str, timeout: float = 60) -> tuple[str, list[int]]:
    """A small training in two workers: what it prints last, and the workers."""
    (folder := tmp_path / "pids").mkdir()
    result = run_program(
        tmp_path,
        *SMALL,
        "env=gymnasium",
        f"env.id={LEAVING}",
        f"+env.kwargs.folder={folder}",
        "env.task_by=method",
        "env.tasks=[1.0,2.0]",
        "env.horizon=6",
        "collection.backend=process",
        "collection.num_workers=2",
        f"collection.worker_timeout={timeout}",
        "trainer.max_epochs=2",
        "trainer.check_val_every_n_epoch=9",
        "callbacks.checkpoint.every_n_epochs=1",
        f"hydra.run.dir={tmp_path / 'run'}",
        *overrides,
        PYTHONPATH=str(ROOT),
    )
    lines = result.stderr.strip().splitlines()
    return (lines[-1] if result.returncode else ""), pids_in(folder)


def test_a_run_ends_with_its_workers(tmp_path: Path) -> None:
    line, pids = train(tmp_path)
    assert line == ""
    assert (tmp_path / "run" / "summary.json").exists()
    # The program itself has looked at an environment, and two workers each play training, tests.
    assert len(pids) >= 1 + 2 * 2
    require_gone(pids)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raises", "cannot play a step in the task 1.*: ZeroDivisionError: the pole is nowhere"),
        ("dies", r"has lost its process \(exit code -9\) in the task 1"),
        ("hangs", "does not answer within 2 s in the task 1"),
    ],
)
def test_a_fault_keeps_the_checkpoint(tmp_path: Path, fault: str, told: str) -> None:
    kwargs = (f"+env.kwargs.fault={fault}", f"+env.kwargs.at={IN_SECOND_ITERATION}")
    line, pids = train(tmp_path, *kwargs, timeout=2)
    kept = tmp_path / "run" / "last.ckpt"
    assert line.startswith(f"error: {LEAVING} ")
    assert line.endswith(f"; resume with ckpt_path={kept}")
    assert re.search(told, line), line
    assert Checkpoint.read(kept).state_dict["clock.iterations_done"] == 1
    require_gone(pids)


ENDS = ["close", "error", "exit", "os_exit", "end", "killed"]


def end(folder: Path, way: str, fault: str = "none") -> None:
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", PLAYS, str(folder), way, fault],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if way == "killed":
        deadline = time.monotonic() + 100
        while not (folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    process.wait(timeout=100)
    assert len(pids_in(folder)) == 3
    require_gone(pids_in(folder))


@pytest.mark.slow
@pytest.mark.parametrize("way", ENDS)
def test_no_worker_outlives_the_program(tmp_path: Path, way: str) -> None:
    end(tmp_path / way, way)


def test_no_worker_outlives_a_program_that_is_killed(tmp_path: Path) -> None:
    end(tmp_path / "killed", "killed", "hangs")


@pytest.mark.slow
def test_no_worker_outlives_it_twenty_times(tmp_path: Path) -> None:
    for number in range(20):
        end(tmp_path / str(number), ENDS[number % len(ENDS)], ["none", "hangs"][number % 2])
