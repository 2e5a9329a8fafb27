"""One of two ranks that is killed at a random moment takes the other along, and nothing is lost.

`FAULTS=50 pytest -m slow -s tests/faults/test_killed_ranks.py` kills 50; counts are printed.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.test_kills import KILLED, LIMIT, doing, iterations_in, run_of
from tests.faults.zygote import Program, Zygote
from tests.invariants.test_runs import assert_same_run

NUM_KILLS = int(os.environ.get("FAULTS", "4"))
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TWO = (
    *KILLED,
    *("trainer.devices=2", "trainer.strategy=ddp", "learner.num_minibatches=1"),
    "evaluation.test_tasks=64",
)
# Of the first rank: done, stopped or told of the lost one, or killed by itself or by Lightning.
CODES = (0, 1, -signal.SIGKILL, -signal.SIGTERM)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as one:
        yield one


def second_of(program: Program) -> int | None:
    """The process of the second rank; None if it has not been started, or has ended."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            group = int((place / "stat").read_text().rpartition(")")[2].split()[2])
            is_second = b"\0LOCAL_RANK=1\0" in b"\0" + (place / "environ").read_bytes()
            if group == program.pid and is_second:
                return int(place.name)
    return None


def wait_until_it_trains(program: Program) -> None:
    """Wait for the first iteration, or the end of the program."""
    until = time.monotonic() + LIMIT
    while "iteration " not in program.output.read_text() and time.monotonic() < until:
        if program.wait(0) is not None:
            break
        time.sleep(0.005)


def durations_of(zygote: Zygote, folder: Path, *arguments: str) -> tuple[float, float]:
    """Run a program to its end; returns its seconds, and those after it has begun to train."""
    begun = time.monotonic()
    program = zygote.start(folder, *arguments)
    wait_until_it_trains(program)
    trained = time.monotonic()
    assert program.wait(LIMIT) == 0, program.output.read_text()
    assert not program.end()
    return time.monotonic() - begun, time.monotonic() - trained


def killed(
    rng: random.Random, program: Program, run: Path, durations: tuple[float, float]
) -> list[str]:
    """Kill one of two ranks at a random moment; returns labels for the counts."""
    number, rank = rng.choice(SIGNALS), rng.choice((0, 1))
    whole, training = durations
    # Most of a run's time is the start of its second rank: half of the kills come later.
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, whole))
    else:
        wait_until_it_trains(program)
        time.sleep(rng.uniform(0, training))
    before = iterations_in(run)
    second = second_of(program)
    if rank == 1 and second is not None:
        with suppress(ProcessLookupError):
            os.kill(second, number)
    else:
        rank = 0
        program.send(number)
    code = program.wait(LIMIT)
    left = program.end()
    output = program.output.read_text()
    said = f"{number.name} to rank {rank}, exit code {code}:\n{output}"
    assert code is not None, f"it hangs after {said}"
    # A run that is done may be killed at the exit of its interpreter.
    is_done = (run / "summary.json").exists()
    assert code in CODES or (is_done and code == -number), said
    assert "Traceback" not in output, said
    assert not left, f"{left} are left after {said}"
    assert iterations_in(run) >= before, f"iterations are lost after {said}"
    return [number.name, f"rank {rank}", doing(output, run), f"exit code {code}"]


@pytest.mark.slow
def test_a_killed_rank_takes_the_other_along_and_nothing_is_lost(
    tmp_path: Path, zygote: Zygote
) -> None:
    rng, counts = random.Random(os.environ.get("FAULTS_SEED", "2")), Counter[str]()
    whole = tmp_path / "whole"
    durations = durations_of(zygote, tmp_path, *TWO, f"hydra.run.dir={whole}")
    kills = 0
    while kills < NUM_KILLS:
        counts["chains"] += 1
        folder = tmp_path / f"chain_{counts['chains']}"
        folder.mkdir()
        run = folder / "run"
        while not (run / "summary.json").exists():
            given = [*TWO, f"hydra.run.dir={run}"]
            if (run / "last.ckpt").exists():
                given.append(f"ckpt_path={run}")
            if kills >= NUM_KILLS:
                run_of(zygote, folder, *given)
                break
            kills += 1
            counts.update(killed(rng, zygote.start(folder, *given), run, durations))
        assert_same_run(whole / "last.ckpt", run / "last.ckpt")
        print(f"{kills} kills: {dict(counts)}", flush=True)  # noqa: T201
