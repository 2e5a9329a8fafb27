"""Run loops in processes of their own, in turns, so that they meet the same machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.peers.loops import Lap
from benchmarks.peers.work import Work

ERROR = re.compile(r"[\w.]+(Error|Exception)\b")
ROOT = Path(__file__).parents[2]
# The package that is measured comes from the first folder, the benchmark from the second.
START = """
import os, sys
if hasattr(os, "sched_setaffinity"):  # the last cores: the first has the most of the system's work
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-{num_threads}:])
sys.path.insert(0, {checkout!r})
try:
    import rl2_lightning
except ImportError:  # a peer in an environment of its own
    pass
sys.path.insert(0, {root!r})
from benchmarks.peers.worker import main
main()
"""


@dataclass(frozen=True)
class Loop:
    """A loop to measure.

    Attributes:
        name: its name in `loops.LOOPS`.
        work: what it does.
        python: the interpreter that runs it.
        checkout: folder of the package that is measured.
    """

    name: str
    work: Work
    python: str = sys.executable
    checkout: Path = ROOT


@dataclass
class Measured:
    """What was measured of a loop, by lap.

    Attributes:
        laps: the seconds of the laps.
        megabytes: peak memory of its process so far.
        error: why there is nothing, in a line.
    """

    laps: list[Lap] = field(default_factory=list)
    megabytes: float = 0.0
    error: str = ""


def environment_for(num_threads: int) -> dict[str, str]:
    """The environment in which all loops compute with as many threads.

    XLA starts as many as the process may use cores, which `START` restricts.
    """
    own = {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
    if num_threads == 1:
        given = os.environ.get("XLA_FLAGS", "")
        own["XLA_FLAGS"] = f"{given} --xla_cpu_multi_thread_eigen=false"
    own["TF_CPP_MIN_LOG_LEVEL"] = "3"
    own["JAX_LOG_COMPILES"] = "0"
    # On a GPU it would take three quarters of the memory at its start, and leave too little.
    own["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return {**os.environ, **own}


class Process:
    """A loop in a process of its own.

    Args:
        loop: the loop.
        num_threads: threads that it may use.
        clock: name of the clock, of `loops.CLOCKS`.
    """

    def __init__(self, loop: Loop, num_threads: int, clock: str) -> None:
        code = START.format(num_threads=num_threads, checkout=str(loop.checkout), root=str(ROOT))
        arguments = [loop.name, clock, json.dumps(asdict(loop.work))]
        # A pipe that nobody reads would fill up and block.
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen(
            [loop.python, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment_for(num_threads),
        )
        self.measured = Measured()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()  # the end of its input ends it
        self._said.close()

    def lap(self, *, counts: bool = True) -> None:
        """Run one iteration; one that does not count warms up."""
        if self.measured.error:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._said.seek(0)
            said = self._said.read().strip().splitlines()
            named = [line for line in said if ERROR.match(line)] or said
            self.measured.error = named[-1] if named else "its process ended"
            return
        collect, whole, self.measured.megabytes = json.loads(answer)
        if counts:
            self.measured.laps.append(Lap(collect, whole))


def take_turns(
    loops: Mapping[str, Loop],
    num_rounds: int,
    num_threads: int,
    clock: str = "wall",
    warm_up: int = 2,
) -> dict[str, Measured]:
    """Measure loops, of which one after the other runs an iteration.

    The order is reversed in every other round, so that none always follows the same one.

    Args:
        loops: the loops by label.
        num_rounds: iterations of each that count.
        num_threads: threads that each may use.
        clock: name of the clock, of `loops.CLOCKS`.
        warm_up: iterations before these.
    """
    running: dict[str, Process] = {}
    try:
        for label, loop in loops.items():
            running[label] = Process(loop, num_threads, clock)  # all import their libraries at once
        for process in running.values():
            for _ in range(warm_up):
                process.lap(counts=False)
        for number in range(num_rounds):
            processes = list(running.values())
            for process in processes if number % 2 == 0 else reversed(processes):
                process.lap()
    finally:
        for process in running.values():
            process.close()
    return {label: process.measured for label, process in running.items()}
