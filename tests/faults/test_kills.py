"""Runs that are killed at random moments, and resumed until they are done, lose nothing.

`FAULTS=200 pytest -m slow -s tests/faults/test_kills.py` kills 200 times; the counts are printed.
"""

import csv
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.command_line.program import SMALL
from tests.faults.zygote import Fresh, Program, Zygote
from tests.invariants.test_runs import assert_same_run

NUM_KILLS = int(os.environ.get("FAULTS", "12"))
LIMIT = 300.0  # seconds until a program has ended after a signal
RESUMED = (
    "trainer.max_epochs=null",
    "trainer.check_val_every_n_epoch=3",
    "callbacks.adaptation_over_training=null",
    "callbacks.checkpoint.every_n_epochs=1",
    "logger=csv",
)
KILLED = (*SMALL, "collection.total_env_steps=96", *RESUMED)  # 6 iterations
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FRESH = 20  # one program of so many is no fork, and does its own imports
# Exit codes: 0 if the run was done, or else if it was stopped, or before it looked at signals.
CODES = {
    signal.SIGKILL: (0, -signal.SIGKILL),
    signal.SIGTERM: (0, 1, -signal.SIGTERM),
    signal.SIGINT: (0, 1),
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as one:
        yield one


def run_of(zygote: Zygote, folder: Path, *arguments: str) -> float:
    """Run a program to its end, without a kill; returns the seconds that it took."""
    begun = time.monotonic()
    program = zygote.start(folder, *arguments)
    code = program.wait(LIMIT)
    assert code == 0, program.output.read_text()
    assert not program.end()
    return time.monotonic() - begun


def iterations_in(run: Path) -> int:
    """How many iterations are in the checkpoint of a run; 0 without one."""
    last = run / "last.ckpt"
    if not last.exists():
        return 0
    content: dict[str, Any] = torch.load(last, weights_only=True)
    return int(content["state_dict"]["clock.iterations_done"])


def written_at(path: Path) -> int | None:
    """When a file was last written to; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def wait_for_moment(rng: random.Random, run: Path, duration: float) -> str:
    """Wait until a program is to be killed; returns what it is doing."""
    at_a_checkpoint = rng.random() < 0.3
    until = time.monotonic() + rng.uniform(0, duration)
    unfinished = run / ".last.ckpt.unfinished"
    earlier = written_at(unfinished)  # by a program that was killed
    while time.monotonic() < until:
        if at_a_checkpoint and written_at(unfinished) not in (None, earlier):
            return "writing a checkpoint"
        time.sleep(0.0005 if at_a_checkpoint else 0.005)
    return "at any moment"


def doing(output: str, run: Path) -> str:
    """What a program was doing when it was killed, from what it has written."""
    if "testing on" in output:
        return "testing"
    if "iteration " not in output:
        return "starting"
    return "training" if (run / "last.ckpt").exists() else "in its first iteration"


def killed(rng: random.Random, program: Program, run: Path, duration: float) -> list[str]:
    """Kill a program at a random moment; returns labels for the counts."""
    number = rng.choice(SIGNALS)
    moment = wait_for_moment(rng, run, duration)
    before = iterations_in(run)
    program.send(number)
    code = program.wait(LIMIT)
    left = program.end()
    output = program.output.read_text()
    said = f"{number.name}, {moment}, exit code {code}:\n{output}"
    assert code is not None, f"it hangs after {said}"
    # A run that is done may be killed at the exit of its interpreter.
    is_done = (run / "summary.json").exists()
    assert code in CODES[number] or (is_done and code == -number), said
    assert "Traceback" not in output, said
    assert not left, f"{left} are left after {said}"
    if code == 1:
        assert output.splitlines()[-1].startswith(("stopped ", "error: stopped ")), said
    assert iterations_in(run) >= before, f"iterations are lost after {said}"
    was = doing(output, run) if moment == "at any moment" else moment
    return [number.name, was, f"exit code {code}"]


def rows_of(path: Path) -> list[list[tuple[str, str]]]:
    """The rows of a table, sorted: those of reference players come where a program first played."""
    with path.open(encoding="utf-8") as file:
        return sorted(list(row.items()) for row in csv.DictReader(file))


def steps_of(run: Path) -> list[str]:
    """The env steps of each row of a run's metrics."""
    with (run / "csv" / "metrics.csv").open(encoding="utf-8") as file:
        return [row["step"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(tmp_path: Path, zygote: Zygote) -> None:
    rng, counts = random.Random(os.environ.get("FAULTS_SEED", "1")), Counter[str]()
    whole = tmp_path / "whole"
    run_of(zygote, tmp_path, *KILLED, f"hydra.run.dir={whole}")
    duration = run_of(zygote, tmp_path, *KILLED, f"hydra.run.dir={tmp_path / 'again'}")
    kills = 0
    while kills < NUM_KILLS:
        counts["chains"] += 1
        folder = tmp_path / f"chain_{counts['chains']}"
        folder.mkdir()
        run = folder / "run"
        while not (run / "summary.json").exists():
            given = [*KILLED, f"hydra.run.dir={run}"]
            if (run / "last.ckpt").exists():
                given = [f"hydra.run.dir={run}", f"ckpt_path={run}", *RESUMED]
            if kills >= NUM_KILLS:
                run_of(zygote, folder, *given)
                break
            kills += 1
            if kills % FRESH:
                program, most = zygote.start(folder, *given), duration
            else:
                program, most = Fresh(folder, *given), 3 * duration
            counts.update(killed(rng, program, run, most))
        assert_same_run(whole / "last.ckpt", run / "last.ckpt")
        name = "adaptation_curve.csv"
        assert rows_of(run / name) == rows_of(whole / name)
        assert steps_of(run) == steps_of(whole)
        assert not list(run.glob(".*unfinished")), "a later checkpoint takes its place"
        print(f"{kills} kills: {dict(counts)}", flush=True)  # noqa: T201
