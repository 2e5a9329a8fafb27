"""Environments in Ray's actors, on this machine or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rl2_lightning.errors import UserError
from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium.layouts import Array
from rl2_lightning.families.gymnasium.rows import (
    Layouts,
    LocalRows,
    Results,
    Start,
    failure,
    split,
)


class RayRows:
    """Environments in Ray's actors, each of which plays a share of the rows.

    Joins the cluster that Ray is connected to or that `RAY_ADDRESS` names, or starts Ray on this
    machine, and then stops it again. Actions and results are sent with each call.

    Args:
        layouts: what is known of the environment.
        num_rows: B.
        execution: number of actors, and how long to wait for one.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, layouts: Layouts, num_rows: int, execution: Execution) -> None:
        self._ray = _imported_ray()
        self._maker = layouts.maker
        self._tasks: dict[int, Any] = {}
        self._timeout = execution.worker_timeout
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            self._ray.init(log_to_driver=False, configure_logging=False)
        self.results = Results.allocate(layouts, num_rows)
        self._parts = split(num_rows, min(execution.num_workers, num_rows))
        # A fraction of a core, so that workers never wait for others to end.
        make = self._ray.remote(num_cpus=0.01, max_restarts=0)(Worker).remote
        self._workers = [make(layouts, rows.stop - rows.start) for rows in self._parts]

    def begin(self, starts: Mapping[int, Start]) -> None:
        """See `Rows.begin`."""
        self._tasks |= {row: start[0] for row, start in starts.items() if start is not None}
        calls = {}
        for number, rows in enumerate(self._parts):
            numbers = range(rows.start, rows.stop)
            own = {row - rows.start: starts[row] for row in numbers if row in starts}
            if own:
                calls[number] = self._workers[number].begin.remote(own)
        self._collect(calls)

    def step(self, actions: Array, playing: Array) -> None:
        """See `Rows.step`."""
        self._collect({
            number: self._workers[number].step.remote(actions[rows], playing[rows])
            for number, rows in enumerate(self._parts)
            if playing[rows].any()
        })  # fmt: skip

    def close(self) -> None:
        """See `Rows.close`."""
        if self._workers and self._ray.is_initialized():
            closed = [worker.close.remote() for worker in self._workers]
            self._ray.wait(closed, num_returns=len(closed), timeout=1.0)
            for worker in self._workers:
                self._ray.kill(worker)
            if self._is_own:
                self._ray.shutdown()
        self._workers = []

    def _collect(self, calls: Mapping[int, Any]) -> None:
        """Wait for the results of calls, and take them over."""
        errors = self._ray.exceptions
        deadline = time.monotonic() + self._timeout
        for number, call in calls.items():
            try:
                left = max(0.0, deadline - time.monotonic())
                answer = self._ray.get(call, timeout=left)
            except errors.GetTimeoutError:
                answer = self._failure(number, f"does not answer within {self._timeout:g} s")
            except errors.RayError as error:
                answer = self._failure(number, "has lost its worker", error)
            if isinstance(answer, UserError):
                self.close()
                raise answer
            self.results.take(self._parts[number], answer)

    def _failure(self, number: int, what: str, error: Exception | None = None) -> UserError:
        """What has happened to a worker; which of its tasks it was playing is not known."""
        rows = self._parts[number]
        tasks = [self._tasks[row] for row in range(rows.start, rows.stop) if row in self._tasks]
        task: Any = tasks[0] if len(tasks) == 1 else f"{tasks}, one of these"
        return failure(self._maker, what, task, error)


class Worker:
    """What one of Ray's actors does: play the environments of some rows.

    Args:
        layouts: what is known of the environment.
        num_rows: number of its environments.
    """

    def __init__(self, layouts: Layouts, num_rows: int) -> None:
        self._rows = LocalRows(layouts, Results.allocate(layouts, num_rows))

    def begin(self, starts: Mapping[int, Start]) -> Results | UserError:
        """Start episodes; returns the results, or what has failed."""
        try:
            self._rows.begin(starts)
        except UserError as error:
            return type(error)(*error.args)
        return self._rows.results

    def step(self, actions: Array, playing: Array) -> Results | UserError:
        """Step the rows that are playing; returns the results, or what has failed."""
        try:
            self._rows.step(actions, playing)
        except UserError as error:
            return type(error)(*error.args)
        return self._rows.results

    def close(self) -> None:
        """Close the environments."""
        self._rows.close()


def _imported_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "collection.backend=ray needs a package that is not installed: run `pip install "
            "rl2-lightning[ray]`, or set collection.backend=process"
        ) from error
    return ray
