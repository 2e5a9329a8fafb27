"""Start programs in forks of an interpreter that has done the slow imports.

Run as a program, it reads requests from standard input, one JSON object in each line, and answers
each in one line. A fork ends as a process of its own does: with atexit handlers, and the same exit
codes and messages.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLL = 0.005  # seconds
GRACE = 10.0  # seconds in which helpers of a program notice that it has ended

# What a run imports late.
LATE_IMPORTS = (
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "rl2_lightning.callbacks.adaptation_curve",
    "rl2_lightning.callbacks.closing_table",
    "rl2_lightning.callbacks.csv_metrics",
    "rl2_lightning.callbacks.trial_analysis",
    "rl2_lightning.callbacks.trial_paths",
    "rl2_lightning.families.bernoulli_bandit",
    "rl2_lightning.learners.ppo",
    "rl2_lightning.resumed_config",
    "rl2_lightning.session",
    "rl2_lightning.stored_choices",
    "torch.utils.tensorboard",
)


class Zygote:
    """The interpreter that programs are forked from; a context manager."""

    def __init__(self) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        for name in ("HYDRA_FULL_ERROR", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
            env.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env,
        )

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def ask(self, **request: Any) -> Any:
        """Send a request, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the zygote has ended"
        return json.loads(line)

    def start(
        self, folder: Path, *arguments: str, largest_file: int | None = None, **variables: str
    ) -> Program:
        """Start `python train.py ...` as the leader of a process group of its own.

        Args:
            folder: working directory, in which the output is written.
            arguments: arguments of the program.
            largest_file: bytes to which the system limits each file.
            variables: variables of the environment.
        """
        output = folder / f"output_{time.monotonic_ns()}.txt"
        output.touch()  # a kill may come before the program opens it
        pid = self.ask(
            folder=str(folder),
            arguments=arguments,
            output=str(output),
            largest_file=largest_file,
            variables=variables,
        )
        return Program(self, pid, output)


class Program:
    """A program that runs.

    Attributes:
        pid: process, and process group.
        output: file of both its outputs.
    """

    def __init__(self, zygote: Zygote, pid: int, output: Path) -> None:
        self._zygote = zygote
        self.pid = pid
        self.output = output

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the program has ended."""
        self._zygote.ask(pid=self.pid, send=int(number))

    def wait(self, seconds: float) -> int | None:
        """The exit code, negative for a signal; None if the program runs longer than this."""
        code: int | None = self._zygote.ask(pid=self.pid, wait=seconds)
        return code

    def end(self) -> list[str]:
        """Kill what is left of the process group after a while; returns its command lines."""
        until = time.monotonic() + GRACE
        while (left := _running_in(self.pid)) and time.monotonic() < until:
            time.sleep(POLL)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return left


def _running_in(group: int) -> list[str]:
    """The command lines of what runs in a process group."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            text = (place / "stat").read_text().rpartition(")")[2]
            state, _, its_group = text.split()[:3]
            if int(its_group) == group and state != "Z":
                found.append((place / "cmdline").read_text().replace("\0", " "))
    return found


class Fresh(Program):
    """A program in an interpreter of its own, which does the slow imports itself.

    It has begun to handle signals: before, a signal meets Python's own start.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.output = folder / f"output_{time.monotonic_ns()}.txt"
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=env,
                start_new_session=True,
            )
        self.pid = self._process.pid
        while self.wait(POLL) is None and not _handles(self.pid, signal.SIGTERM):
            pass

    def send(self, number: signal.Signals) -> None:
        """See `Program`."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int | None:
        """See `Program`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def _handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def _serve() -> bool:
    """Answer requests; returns whether this is a fork that is to run the program."""
    codes: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any
        if "wait" in request:
            answer = _wait(request["pid"], request["wait"], codes)
        elif "send" in request:
            if _wait(request["pid"], 0, codes) is None:
                os.kill(request["pid"], request["send"])
            answer = None
        else:
            pid = os.fork()
            if pid == 0:
                _become(request)
                return True
            answer = pid
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return False


def _wait(pid: int, seconds: float, codes: dict[int, int]) -> int | None:
    until = time.monotonic() + seconds
    while pid not in codes:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            codes[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() >= until:
            return None
        else:
            time.sleep(POLL)
    return codes[pid]


def _become(request: Mapping[str, Any]) -> None:
    """Make a fork look like a program that was started in a shell."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.update(request["variables"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(request["output"], os.O_WRONLY)
    for opened, standard in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(opened, standard)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["largest_file"] is not None:
        # Like Python's own default: a write fails, and the process is not killed.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
    sys.argv = [str(ROOT / "train.py"), *request["arguments"]]


def _import_all() -> Any:
    for name in LATE_IMPORTS:
        import_module(name)
    program = import_module("train")
    gc.freeze()  # forks share the memory of what is imported
    return program


if __name__ == "__main__":
    program = _import_all()
    if _serve():
        program.main()
