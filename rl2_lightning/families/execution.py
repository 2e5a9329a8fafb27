"""Where the environments of a family are played, if it leaves the choice."""

import os
from dataclasses import dataclass

BATCHED = "batched"


@dataclass(frozen=True)
class Execution:
    """How environments are played that are not tensors.

    Attributes:
        backend: "batched" for this process, one after the other; or a backend of the family.
        num_workers: number of workers, if the backend has any.
        worker_timeout: how long a worker may take for one environment, in seconds.
        num_ranks: number of processes that train on this machine, each with such workers.
    """

    backend: str = BATCHED
    num_workers: int = 1
    worker_timeout: float = 60.0
    num_ranks: int = 1


def num_cores() -> int:
    """The number of cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
