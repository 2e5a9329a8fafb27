"""Python programs in processes of their own, forked from one that has done the slow imports.

The process that forks has run nothing, so that its fork, like a process that was just started,
shares only files with the test. What concerns the start itself, such as what is imported and the
variables that are read then, needs a new process.
"""

import atexit
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
from torch.multiprocessing import start_processes

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0  # seconds that a program may take
CONTEXT = get_context("forkserver")
# With what they import, all that a run needs.
IMPORTED = ("callbacks.summary", "rl2_lightning.build", "rl2_lightning.session", "tests.forked")
# Variables that say where and how this process runs.
HIDDEN = ("HYDRA_FULL_ERROR", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")


def variables_of_a_shell() -> dict[str, str]:
    """The environment of a program that a user starts, with results that are bitwise the same."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return {**kept, "OMP_NUM_THREADS": "1"}


class Program:
    """A program that runs, like `subprocess.Popen`, and prints into two files."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str], printed: Path
    ) -> None:
        start_server()
        self._files = (printed / "out", printed / "err")
        for file in self._files:
            file.touch()
        given = ([*map(str, arguments)], str(folder), {**env}, [*map(str, self._files)])
        self._process = CONTEXT.Process(target=_become, args=given)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.exitcode

    def send_signal(self, signal: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, signal)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end, and return its exit code."""
        self._process.join(timeout)
        code = self.poll()
        assert code is not None, f"it still runs: {self.read()}"
        return code

    def wait_for(self, words: str, timeout: float = PATIENCE) -> None:
        """Wait until it has printed some words."""
        deadline = time.monotonic() + timeout
        while words not in "".join(self.read()):
            assert self.poll() is None, self.read()
            assert time.monotonic() < deadline, self.read()
            time.sleep(0.01)

    def read(self) -> tuple[str, str]:
        """What it has printed on standard output and standard error."""
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return out, err

    def end(self) -> None:
        """Kill it if it still runs."""
        self._process.kill()
        self._process.join()


@contextmanager
def forked(
    arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Start `python` with arguments, in a folder and an environment, and kill it at the end."""
    with TemporaryDirectory() as printed:
        env = variables_of_a_shell() if env is None else env
        program = Program(arguments, folder, env, Path(printed))
        try:
            yield program
        finally:
            program.end()


def run_forked(
    arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python` with arguments, in a folder and an environment, to its end."""
    with forked(arguments, folder, env) as program:
        return subprocess.CompletedProcess(arguments, program.wait(), *program.read())


def start_server() -> None:
    """Start the process that forks, which is one for all tests of this process."""
    forkserver.set_forkserver_preload([*IMPORTED])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where it looks for modules
        for name in HIDDEN:
            patch.delenv(name, raising=False)
        forkserver.ensure_running()


def run_ranks(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function with a rank and arguments in two processes, and wait for both."""
    start_server()
    start_processes(function, arguments, nprocs=2, start_method="forkserver")


def _become(arguments: list[str], folder: str, env: dict[str, str], files: list[str]) -> None:
    """Turn this process into a program."""
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    _run(arguments, [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path])


def _run(arguments: list[str], paths: list[str]) -> None:
    """Do what `python` does with arguments, of which `-c`, `-m` and a script are known."""
    kind, *others = arguments
    first = {"-c": "", "-m": str(Path.cwd())}.get(kind, str(Path(kind).parent))
    sys.path[:] = [first, *paths, *(path for path in sys.path if Path(path) != ROOT)]
    try:
        if kind == "-c":
            program, *rest = others
            sys.argv = ["-c", *rest]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(program, "<string>", "exec"), vars(main))
        elif kind == "-m":
            sys.argv = others
            runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(kind, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which a process of `multiprocessing` leaves out before 3.13
