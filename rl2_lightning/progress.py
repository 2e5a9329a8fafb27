"""A progress bar that appears only for slow work."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

PATIENCE = 2.0  # seconds of silence before a bar appears
ON_SCREEN, IN_LOG = 0.1, 30.0  # seconds between two updates of a bar

Item = TypeVar("Item")


def track_slow(items: Iterable[Item], description: str) -> Iterable[Item]:
    """Iterate over the items, with a bar on stderr if that takes long.

    On a terminal it appears after two seconds, in a log after half a minute.
    """
    interval = ON_SCREEN if sys.stderr.isatty() else IN_LOG
    bar: Iterable[Item] = tqdm(
        items, description, delay=PATIENCE, leave=False, mininterval=interval
    )
    return bar
