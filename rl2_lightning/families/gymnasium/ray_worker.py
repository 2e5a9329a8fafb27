"""What one of Ray's actors does: play the environments of some rows. Imported without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import numpy as np

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.observations import Array
from rl2_lightning.families.gymnasium.rows import Layouts, LocalRows, Results, Start

# Waits in a process of its own for the end of another one, and then ends its group. The pipe closes
# with that process, unless one that it has forked holds the other end, too.
GUARD = """
import os, select, signal, sys
pid = int(sys.argv[1])
try:
    while not select.select([0], [], [], 0.5)[0]:
        os.kill(pid, 0)
except ProcessLookupError:
    pass
try:
    os.killpg(pid, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class RayWorker:
    """Plays the environments of some rows in one of Ray's actors.

    However the actor ends, the processes that its environments have started end with it, unless
    they leave its process group.

    Args:
        layouts: what is known of the environment.
        num_rows: number of its environments.
    """

    def __init__(self, layouts: Layouts, num_rows: int) -> None:
        _guard_own_group()
        self._current = np.zeros(1, np.int64)
        self._rows = LocalRows(layouts, Results.allocate(layouts, num_rows), self._current)

    def ready(self) -> None:
        """Answers once the actor has been made."""

    def current(self) -> int:
        """The row that is being played; answers while another method runs."""
        return int(self._current[0])

    def begin(self, starts: Mapping[int, Start]) -> Results | UserError:
        """Start episodes; returns the results, or what has failed."""
        try:
            self._rows.begin(starts)
        except UserError as error:
            return type(error)(*error.args)  # without its cause, which may not be sent
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


def _guard_own_group() -> None:
    """Lead a process group, which a guard outside of it ends when this process has ended."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", GUARD, str(os.getpid())],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
