"""Environments in worker processes, each of which plays a share of the rows."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from types import ModuleType
from typing import Any

import numpy as np

from rl2_lightning.families.execution import Execution, num_cores
from rl2_lightning.families.gymnasium.observations import Array
from rl2_lightning.families.gymnasium.rows import Layouts, Results, Start, failure, split
from rl2_lightning.families.gymnasium.waiting import (
    CLOSE_PATIENCE,
    START_PATIENCE,
    answers,
    begin_patience,
)
from rl2_lightning.families.gymnasium.worker import CLOSE, DONE, SIGNALS, STEP, Shared, serve
from rl2_lightning.progress import track_slow

# Where numerical libraries read how many threads they may use.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Worker = tuple[BaseProcess, Connection]


class ProcessRows:
    """Environments in worker processes.

    Actions and results lie in shared memory. A step is one short message to each worker that has a
    row to play, and one back, so its cost does not grow with the number of environments.

    Gymnasium's `AsyncVectorEnv` steps all environments at each step, resets them all with the same
    options, and starts a process for each.

    Args:
        layouts: what is known of the environment.
        num_rows: B.
        execution: number of workers, and how long to wait for one.

    Raises:
        FailedEnvironmentError: a worker cannot be started.
    """

    def __init__(self, layouts: Layouts, num_rows: int, execution: Execution) -> None:
        self._maker = layouts.maker
        self._timeout = execution.worker_timeout
        self._parts = split(num_rows, min(execution.num_workers, num_rows))
        self._tasks: dict[int, Any] = {}
        # A spawned process inherits neither locks that a thread holds nor a GPU.
        context = get_context("spawn")
        buffers: list[Any] = []
        shapes: list[tuple[tuple[int, ...], str]] = []

        def allocate(shape: tuple[int, ...], dtype: str) -> Array:
            size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
            buffers.append(context.RawArray("b", size))
            shapes.append((shape, dtype))
            return Shared(buffers[-1:], shapes[-1:]).arrays()[0]

        self.results = Results.allocate(layouts, num_rows, allocate)
        self._actions = allocate((num_rows, *layouts.actions.shape), layouts.actions.dtype)
        self._playing = allocate((num_rows,), "bool")
        self._current = allocate((len(self._parts),), "int64")
        self._workers: list[Worker] = []
        self._finalizer = Finalize(self, _end, args=(self._workers,), exitpriority=10)
        shared = Shared(buffers, shapes)
        num_workers = len(self._parts)
        with (
            _shared_out_threads(num_workers * execution.num_ranks),
            _without_main_module(),
            _signals_blocked(),
        ):
            for number, rows in enumerate(self._parts):
                ours, theirs = context.Pipe()
                arguments = (number, rows, layouts, shared, theirs)
                process = context.Process(target=serve, args=arguments, daemon=True)
                process.start()
                theirs.close()  # so that the end of the process ends the pipe
                self._workers.append((process, ours))
        words = f"starting {len(self._parts)} workers of {self._maker.id}"
        for number in track_slow(range(len(self._parts)), words):
            self._receive(number, START_PATIENCE)

    def begin(self, starts: Mapping[int, Start]) -> None:
        """See `Rows.begin`."""
        patience = begin_patience(starts, self._tasks, self._maker, self._timeout)
        self._tasks |= {row: start[0] for row, start in starts.items() if start is not None}
        messages: dict[int, bytes] = {}
        for number, rows in enumerate(self._parts):
            own = {
                row - rows.start: starts[row]
                for row in range(rows.start, rows.stop)
                if row in starts
            }
            if own:
                messages[number] = pickle.dumps(own)
        self._exchange(messages, patience)

    def step(self, actions: Array, playing: Array) -> None:
        """See `Rows.step`."""
        self._actions[...], self._playing[...] = actions, playing
        busy = [number for number, rows in enumerate(self._parts) if playing[rows].any()]
        self._exchange(dict.fromkeys(busy, STEP), self._timeout)

    def close(self) -> None:
        """See `Rows.close`."""
        self._finalizer()

    def _exchange(self, messages: Mapping[int, bytes], patience: float) -> None:
        """Send messages to workers, and wait until each has done what it says."""
        for number, message in messages.items():
            with suppress(OSError):  # it has died, which the answer tells
                self._workers[number][1].send_bytes(message)
        for number in messages:
            self._receive(number, patience)

    def _receive(self, number: int, patience: float) -> None:
        """Wait for a worker's answer.

        Raises:
            UserError: its environment has failed, it has died, or one environment takes too long.
        """
        process, pipe = self._workers[number]
        try:
            if not self._answers(number, patience):
                self._fail(number, f"does not answer within {patience:g} s")
            answer = pipe.recv_bytes()
        except (EOFError, OSError):
            wait([process.sentinel], CLOSE_PATIENCE)
            self._kill()
            self._fail(number, f"has lost its process (exit code {process.exitcode})")
        if answer != DONE:
            self._kill()
            raise pickle.loads(answer)

    def _answers(self, number: int, patience: float) -> bool:
        """Whether a worker answers while it takes at most `patience` seconds for each row."""
        pipe = self._workers[number][1]
        return answers(pipe.poll, lambda: int(self._current[number]), patience)

    def _fail(self, number: int, what: str) -> None:
        row = self._parts[number].start + int(self._current[number])
        self._kill()
        raise failure(self._maker, what, self._tasks.get(row, "that it has not been given yet"))

    def _kill(self) -> None:
        for process, _ in self._workers:
            _kill_group(process)
        self.close()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let signals wait: here until all processes are known, and in each until it handles them."""
    resource_tracker.ensure_running()  # its start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: list[Worker]) -> None:
    """End all processes and those that their environments have started, in the end by force."""
    for _, pipe in workers:
        with suppress(OSError):  # it has ended already
            pipe.send_bytes(CLOSE)
    deadline = time.monotonic() + CLOSE_PATIENCE
    for process, pipe in workers:
        wait([process.sentinel], max(0.0, deadline - time.monotonic()))
        _kill_group(process)
        process.join()
        pipe.close()
    workers.clear()


def _kill_group(process: BaseProcess) -> None:
    """Kill a process and those that it has started.

    It must not have been waited for yet, not even by a look at its exit code: then its number is
    free for others.
    """
    assert process.pid is not None, "it has been started"
    with suppress(ProcessLookupError, PermissionError):  # it has no group yet, or all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Start processes that do not import the program's main module, which may take long."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _shared_out_threads(num_workers: int) -> Iterator[None]:
    """Let processes that are started within share the cores; what the user has set is kept."""
    threads = str(max(1, num_cores() // num_workers))
    unset = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, threads))
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]
