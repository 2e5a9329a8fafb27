"""A progress bar for work that turns out to be slow."""

from collections.abc import Iterator, Sequence
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

PATIENCE = 2.0  # seconds of silence before a bar appears

Item = TypeVar("Item")

_bars_on_screen: list[Progress] = []


def track_slow(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Yields the items, and shows a bar on stderr once two seconds have passed.

    Inside of a loop that shows its bar already, it stays silent: two bars garble a terminal.

    Args:
        items: what to iterate over.
        description: the words beside the bar.

    Yields:
        Each item in turn.
    """
    start = monotonic()
    bar = Progress(console=Console(stderr=True), transient=True)
    row = bar.add_task(description, total=len(items))
    try:
        for item in items:
            if not _bars_on_screen and monotonic() - start > PATIENCE:
                _bars_on_screen.append(bar)
                bar.start()
            yield item
            bar.advance(row)
    finally:
        if bar in _bars_on_screen:
            bar.stop()
            _bars_on_screen.remove(bar)
