"""How long to wait for workers, which play one environment after the other."""

import time
from collections.abc import Callable, Collection, Mapping

from rl2_lightning.families.gymnasium.maker import EnvMaker
from rl2_lightning.families.gymnasium.rows import Start

START_PATIENCE = 120.0  # seconds for a worker to start, and at least for an environment to be made
CLOSE_PATIENCE = 5.0  # seconds in which environments have to close
GLANCE = 0.5  # seconds between two looks at what a worker plays


def begin_patience(
    starts: Mapping[int, Start], begun: Collection[int], maker: EnvMaker, timeout: float
) -> float:
    """How long episodes may take to start, in seconds for each environment.

    Args:
        starts: the rows in which they start.
        begun: the rows that have had a task before.
        maker: makes the environments, some of which may have to be made first.
        timeout: how long an environment may take that has been made.
    """
    makes = any(
        start is not None and (row not in begun or maker.makes_for_each_task)
        for row, start in starts.items()
    )
    return max(timeout, START_PATIENCE) if makes else timeout


def answers(is_there: Callable[[float], bool], current: Callable[[], int], patience: float) -> bool:
    """Whether a worker answers while it takes at most `patience` seconds for each environment.

    Args:
        is_there: waits for the answer, as many seconds as it is given, and tells whether it came.
        current: the row that the worker is playing.
        patience: in seconds.
    """
    deadline, row = time.monotonic() + patience, -1
    while not is_there(min(GLANCE, patience)):
        if (now := current()) != row:
            deadline, row = time.monotonic() + patience, now
        if time.monotonic() >= deadline:
            return False
    return True
