"""A process that runs one of the loops, one iteration for each line that it reads."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from benchmarks.peers.loops import CLOCKS, LOOPS, Lap, Turns
from benchmarks.peers.work import Work


def peak_megabytes() -> float:
    """The peak memory of this process, in MB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # On Linux, ru_maxrss starts with that of the parent process.
    (line,) = (one for one in status.read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Answer each line of standard input with a lap, as JSON.

    The arguments are the names of the loop and of the clock, and the work as JSON.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print must not be among the answers
    name, clock, work = sys.argv[1:]

    def end(lap: Lap) -> None:
        print(json.dumps([lap.collect, lap.whole, peak_megabytes()]), file=answers, flush=True)

    turns = Turns(lambda: bool(sys.stdin.readline()), end, CLOCKS[clock])
    LOOPS[name](Work(**json.loads(work)), turns)


if __name__ == "__main__":
    main()
