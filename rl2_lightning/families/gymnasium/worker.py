"""What a worker process does: play the environments of some rows. Imported without torch."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import numpy as np

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.observations import Array
from rl2_lightning.families.gymnasium.rows import Layouts, LocalRows, Results

# Other messages are pickled; these are not, because they are the most frequent.
STEP, CLOSE, DONE = b"step", b"close", b"done"
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # the parent's to handle


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
        pipe.send_bytes(DONE)
        while (message := pipe.recv_bytes()) != CLOSE:
            try:
                if message == STEP:
                    local.step(actions[rows], playing[rows])
                else:
                    local.begin(pickle.loads(message))
                answer = DONE
            except UserError as error:
                # Without its cause, which it may not be possible to pickle.
                answer = pickle.dumps(type(error)(*error.args))
            pipe.send_bytes(answer)
    except (EOFError, OSError):
        pass  # the other side has gone
    finally:
        local.close()
        pipe.close()


def _live_as_long_as_the_parent() -> None:
    """Leave signals to the parent, and end with it, even in the middle of a step.

    The process leads a session of its own: Ctrl-C in a terminal does not reach it, and what its
    environments start can be ended with it.
    """
    os.setsid()
    for number in SIGNALS:
        # Not `SIG_IGN`, which the processes that an environment starts would inherit.
        signal.signal(number, _leave_to_the_parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _leave_to_the_parent(number: int, frame: FrameType | None) -> None:
    pass


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os.killpg(0, signal.SIGKILL)
