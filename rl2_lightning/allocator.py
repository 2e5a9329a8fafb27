"""The memory of the process: the allocator, and the garbage collector."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Constants from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Make glibc reuse all freed blocks; other allocators are unaffected.

    By default glibc returns the large intermediate tensors of each step to the kernel, which zeroes
    their pages again for the next step. On a CPU this takes up to half of the learning time. A
    higher threshold for such blocks is limited to 32 MiB, so there are none.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Context in which the garbage collector leaves the objects alone that there were before.

    The imported libraries have a million of them. To look through them takes a third of a second,
    every few iterations.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
