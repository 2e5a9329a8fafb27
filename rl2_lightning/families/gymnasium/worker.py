"""What a worker process does: play the environments of some rows. Imported without torch."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.layouts import Array
from rl2_lightning.families.gymnasium.rows import Layouts, LocalRows, Results

STEP, CLOSE, DONE = "step", "close", "done"


@dataclass(frozen=True)
class Shared:
    """Arrays that processes share.

    Attributes:
        buffers: the memory of each array: those of the results, then the actions `[B]` or `[B, A]`,
            the rows that are playing, `[B]`, and the row that each worker plays, `[W]`.
        shapes: shape and dtype of each.
    """

    buffers: Sequence[Any]
    shapes: Sequence[tuple[tuple[int, ...], str]]

    def arrays(self) -> list[Array]:
        """The arrays in the shared memory."""
        return [
            np.frombuffer(buffer, dtype, count=int(np.prod(shape))).reshape(shape)
            for buffer, (shape, dtype) in zip(self.buffers, self.shapes, strict=True)
        ]


def serve(worker: int, rows: slice, layouts: Layouts, shared: Shared, pipe: Connection) -> None:
    """Play environments until told to stop, or until nobody is there to tell.

    Args:
        worker: index of this worker.
        rows: its rows of the arrays.
        layouts: what is known of the environment.
        shared: the arrays of all workers.
        pipe: takes `STEP`, `CLOSE` or the starts of episodes, and answers `DONE` or an error.
    """
    _live_as_long_as_the_parent()
    *of_results, actions, playing, current = shared.arrays()
    results = Results.of(layouts, of_results).part(rows)
    local = LocalRows(layouts, results, current[worker : worker + 1])
    try:
        pipe.send(DONE)
        while (message := pipe.recv()) != CLOSE:
            try:
                if message == STEP:
                    local.step(actions[rows], playing[rows])
                else:
                    local.begin(message)
                answer: str | UserError = DONE
            except UserError as error:
                answer = type(error)(*error.args)  # without its cause, which may not be pickled
            pipe.send(answer)
    except (EOFError, OSError):
        pass  # the other side has gone
    finally:
        local.close()
        pipe.close()


def _live_as_long_as_the_parent() -> None:
    """Leave signals to the parent, and end with it, even in the middle of a step."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
