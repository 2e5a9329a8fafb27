"""Environments in Ray's actors, on this machine or on a cluster."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from rl2_lightning.errors import UserError
from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium.observations import Array
from rl2_lightning.families.gymnasium.ray_worker import RayWorker
from rl2_lightning.families.gymnasium.rows import Layouts, Results, Start, failure, split
from rl2_lightning.families.gymnasium.waiting import (
    CLOSE_PATIENCE,
    GLANCE,
    START_PATIENCE,
    answers,
    begin_patience,
)
from rl2_lightning.progress import track_slow

LOOKING = "looking"  # the thread of an actor that tells what it plays


class RayRows:
    """Environments in Ray's actors, each of which plays a share of the rows.

    Actions and results are sent with each call.

    Args:
        layouts: what is known of the environment.
        num_rows: B.
        execution: number of actors, and how long to wait for one.

    Raises:
        FailedEnvironmentError: an actor cannot be started.
        UserError: Ray is not installed, or can neither be joined nor started.
    """

    def __init__(self, layouts: Layouts, num_rows: int, execution: Execution) -> None:
        self._maker = layouts.maker
        self._tasks: dict[int, Any] = {}
        self._timeout = execution.worker_timeout
        self.results = Results.allocate(layouts, num_rows)
        self._parts = split(num_rows, min(execution.num_workers, num_rows))
        self._ray = _USED.join(self)
        # A fraction of a core, so that actors never wait for others to end.
        options = {"num_cpus": 0.01, "max_restarts": 0, "concurrency_groups": {LOOKING: 1}}
        make = self._ray.remote(**options)(RayWorker).remote
        self._workers = [make(layouts, rows.stop - rows.start) for rows in self._parts]
        words = f"starting {len(self._parts)} actors of {self._maker.id}"
        for number in track_slow(range(len(self._parts)), words):
            self._receive(number, self._workers[number].ready.remote(), START_PATIENCE)

    def begin(self, starts: Mapping[int, Start]) -> None:
        """See `Rows.begin`."""
        patience = begin_patience(starts, self._tasks, self._maker, self._timeout)
        self._tasks |= {row: start[0] for row, start in starts.items() if start is not None}
        calls = {}
        for number, rows in enumerate(self._parts):
            numbers = range(rows.start, rows.stop)
            own = {row - rows.start: starts[row] for row in numbers if row in starts}
            if own:
                calls[number] = self._workers[number].begin.remote(own)
        self._collect(calls, patience)

    def step(self, actions: Array, playing: Array) -> None:
        """See `Rows.step`."""
        calls = {
            number: self._workers[number].step.remote(actions[rows], playing[rows])
            for number, rows in enumerate(self._parts)
            if playing[rows].any()
        }
        self._collect(calls, self._timeout)

    def close(self) -> None:
        """See `Rows.close`."""
        if self._workers and self._ray.is_initialized():
            closed = [worker.close.remote() for worker in self._workers]
            self._ray.wait(closed, num_returns=len(closed), timeout=CLOSE_PATIENCE)
        self._kill()

    def _kill(self) -> None:
        if self._workers and self._ray.is_initialized():
            for worker in self._workers:
                self._ray.kill(worker)
        self._workers = []
        _USED.leave(self)

    def _collect(self, calls: Mapping[int, Any], patience: float) -> None:
        """Wait for the results of calls, and take them over."""
        for number, call in calls.items():
            self.results.take(self._parts[number], self._receive(number, call, patience))

    def _receive(self, number: int, call: Any, patience: float) -> Any:
        """Wait for an actor's answer.

        Raises:
            UserError: its environment has failed, it has died, or one environment takes too long.
        """
        row = -1

        def is_there(seconds: float) -> bool:
            return bool(self._ray.wait([call], timeout=seconds)[0])

        def current() -> int:
            nonlocal row
            row = self._look(number, row)
            return row

        if not answers(is_there, current, patience):
            raise self._failure(number, f"does not answer within {patience:g} s", row)
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            *_, last = f"{error}".strip().splitlines()  # of Ray's account
            reason = last.strip().partition(". ")[0]
            lost = f"has lost its actor ({type(error).__name__}: {reason})"
            raise self._failure(number, lost, -1) from error
        if isinstance(answer, UserError):
            self._kill()
            raise answer
        return answer

    def _look(self, number: int, before: int) -> int:
        """The row that an actor is playing; as before, if it does not tell."""
        asked = self._workers[number].current.options(concurrency_group=LOOKING).remote()
        try:
            return int(self._ray.get(asked, timeout=GLANCE))
        except self._ray.exceptions.RayError:  # of which a timeout is one
            return before

    def _failure(self, number: int, what: str, row: int) -> UserError:
        """What has happened to an actor; if the row is not known, it was playing one of its own."""
        self._kill()
        rows = self._parts[number]
        numbers = range(rows.start, rows.stop) if row < 0 else [rows.start + row]
        tasks = [self._tasks[one] for one in numbers if one in self._tasks]
        if not tasks:
            return failure(self._maker, what, "that it has not been given yet")
        task: Any = tasks[0] if len(tasks) == 1 else f"{tasks}, one of these"
        return failure(self._maker, what, task)


class _UsedRay:
    """Ray, which stays connected as long as some environments are played in it.

    The cluster that Ray is connected to, or that `RAY_ADDRESS` names; or one that is started on
    this machine, and stopped again when the last environments have been closed.
    """

    def __init__(self) -> None:
        self._users: WeakSet[RayRows] = WeakSet()
        self._is_own = False

    def join(self, user: RayRows) -> Any:
        """Connect, if nobody has yet, and return Ray."""
        ray = _imported_ray()
        if not ray.is_initialized():
            self._users.clear()  # somebody else has stopped it
            with _signals_kept():
                try:
                    ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
                except Exception as error:  # it can raise any exception
                    reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
                    raise UserError(
                        f"collection.backend=ray can neither join nor start Ray: {reason}; check "
                        "RAY_ADDRESS, or set collection.backend=process"
                    ) from error
            self._is_own = True
        elif not self._users:
            self._is_own = False
        self._users.add(user)
        return ray

    def leave(self, user: RayRows) -> None:
        """Disconnect after the last one, and stop what has been started."""
        if user not in self._users:
            return
        self._users.remove(user)
        ray = _imported_ray()
        if not self._users and self._is_own and ray.is_initialized():
            with _signals_kept():
                ray.shutdown()


_USED = _UsedRay()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave SIGTERM to who handles it; Ray would end the program, without a checkpoint."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _imported_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "collection.backend=ray needs a package that is not installed: run `pip install "
            "rl2-lightning[ray]`, or set collection.backend=process"
        ) from error
    return ray
