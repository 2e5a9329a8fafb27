"""Worker processes: what goes wrong in one is told, and none outlives the run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium import GymnasiumTasks
from tests.builders import ROOT
from tests.command_line.program import SMALL, run_program

WHERE = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
LEAVING = "tests.families.gymnasium.envs:Leaving"
# One more iteration than the first, in which an environment plays 2 episodes of 6 steps.
IN_SECOND_ITERATION = 14
# A process that plays in workers, whose environments start a process each, and then ends.
PLAYS = """
import os, sys, time
from pathlib import Path
import torch
from rl2_lightning.errors import UserError
from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium import GymnasiumTasks

folder, end, fault, timeout, backend = sys.argv[1:]
env = GymnasiumTasks(
    2, execution=Execution(backend, 2, float(timeout)), horizon=6,
    id="tests.families.gymnasium.envs:Leaving", tasks=[1.0, 2.0], task_by="method",
    kwargs={"folder": folder, "fault": fault, "child": True},
)
for file in Path(folder).iterdir():  # what it has looked at
    file.unlink()
env.reset()
if end == "close":
    env.close()
if end == "error":
    raise ValueError
if end == "exit":
    sys.exit(3)
if end == "os_exit":
    os._exit(4)
Path(folder, "ready").touch()
try:
    env.play(torch.ones(2, dtype=torch.int64), torch.ones(2, 1, dtype=torch.bool))
except UserError:
    if end != "caught":
        raise
if end in ("killed", "interrupted", "terminated", "workers_signalled"):
    time.sleep(3 if end == "workers_signalled" else 1000)
    env.play(torch.ones(2, dtype=torch.int64), torch.ones(2, 1, dtype=torch.bool))
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


def train(
    tmp_path: Path, *overrides: str, timeout: float = 60, backend: str = "process"
) -> tuple[str, list[int]]:
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
        f"collection.backend={backend}",
        "collection.num_workers=2",
        f"collection.worker_timeout={timeout}",
        "trainer.max_epochs=2",
        "trainer.check_val_every_n_epoch=9",
        "callbacks.checkpoint.every_n_epochs=1",
        f"hydra.run.dir={tmp_path / 'run'}",
        *overrides,
        PYTHONPATH=WHERE,
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
    require_the_checkpoint(tmp_path, fault, told, "process")


def require_the_checkpoint(tmp_path: Path, fault: str, told: str, backend: str) -> None:
    """Train until an environment fails, and check what is told, kept and left."""
    kwargs = (f"+env.kwargs.fault={fault}", f"+env.kwargs.at={IN_SECOND_ITERATION}")
    line, pids = train(tmp_path, *kwargs, timeout=2, backend=backend)
    kept = tmp_path / "run" / "last.ckpt"
    assert line.startswith(f"error: {LEAVING} ")
    assert line.endswith(f"; resume with ckpt_path={kept}")
    assert re.search(told, line), line
    assert Checkpoint.read(kept).state_dict["clock.iterations_done"] == 1
    require_gone(pids)


SENT = {
    "killed": signal.SIGKILL,
    "interrupted": signal.SIGINT,
    "terminated": signal.SIGTERM,
    "workers_signalled": signal.SIGTERM,
}
LONG, SHORT = 1000.0, 2.0  # seconds that a step may take
ENDS = [
    ("close", "none", LONG, 1),  # it plays on
    ("error", "none", LONG, 1),
    ("exit", "none", LONG, 3),
    ("os_exit", "none", LONG, 4),
    ("end", "none", LONG, 0),
    ("end", "raises", LONG, 1),
    ("end", "dies", LONG, 1),
    ("end", "hangs", SHORT, 1),
    ("caught", "raises", LONG, 0),
    ("caught", "dies", LONG, 0),
    ("caught", "hangs", SHORT, 0),
    ("killed", "none", LONG, -signal.SIGKILL),
    ("killed", "hangs", LONG, -signal.SIGKILL),
    ("interrupted", "none", LONG, -signal.SIGINT),
    ("interrupted", "hangs", LONG, -signal.SIGINT),
    ("terminated", "none", LONG, -signal.SIGTERM),
    ("terminated", "hangs", LONG, -signal.SIGTERM),
    ("interrupted", "dies", LONG, None),  # before the signal, or just after it
    ("terminated", "raises", LONG, None),
    ("workers_signalled", "none", LONG, 0),
]


def end(folder: Path, way: str, fault: str, timeout: float, backend: str = "process") -> int:
    """Let a program end in some way; returns what it has exited with."""
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", PLAYS, str(folder), way, fault, str(timeout), backend],
        env={**os.environ, "PYTHONPATH": WHERE, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        if way in SENT:
            deadline = time.monotonic() + 100
            while not (folder / "ready").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(1)
            addressees = pids_in(folder) if way == "workers_signalled" else [process.pid]
            for pid in addressees:
                if Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
                    os.kill(pid, SENT[way])
        code = process.wait(timeout=200)
    assert len(pids_in(folder)) == 4  # two workers, and a process of each
    require_gone(pids_in(folder))
    return code


@pytest.mark.slow
@pytest.mark.parametrize(("way", "fault", "timeout", "code"), ENDS)
def test_no_process_outlives_the_program(
    tmp_path: Path, way: str, fault: str, timeout: float, code: int | None
) -> None:
    expected = {code} if code is not None else {1, -SENT[way]}
    assert end(tmp_path / "pids", way, fault, timeout) in expected


def test_no_process_outlives_a_program_that_is_killed(tmp_path: Path) -> None:
    assert end(tmp_path / "pids", "killed", "hangs", LONG) == -signal.SIGKILL


def leaving(folder: Path, timeout: float = 60, **kwargs: Any) -> GymnasiumTasks:
    return GymnasiumTasks(
        1,
        execution=Execution("process", 1, timeout),
        id=LEAVING,
        kwargs={"folder": str(folder), **kwargs},
        horizon=6,
        tasks=[1.0, 2.0],
        task_by="method",
    )


def test_processes_of_an_environment_get_signals_as_usual(tmp_path: Path) -> None:
    env = leaving(tmp_path, child=True)
    env.reset()
    states = [Path(f"/proc/{pid}/status").read_text() for pid in pids_in(tmp_path)]
    child = next(state for state in states if state.startswith("Name:\tsleep"))
    for kind in ("SigIgn", "SigBlk"):
        mask = int(re.search(rf"{kind}:\t(\w+)", child)[1], 16)
        assert not mask & sum(1 << (number - 1) for number in (signal.SIGINT, signal.SIGTERM))
    env.close()
    require_gone([pid for pid in pids_in(tmp_path) if pid != os.getpid()])


def test_making_an_environment_may_take_longer_than_a_step(tmp_path: Path) -> None:
    env = leaving(tmp_path, timeout=0.3, delay=1.5)
    env.reset()
    env.play(torch.ones(1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool))
    env.close()
