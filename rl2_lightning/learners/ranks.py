"""Communication between the ranks of a run."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors


def world_size() -> int:
    """The number of ranks in the run."""
    return distributed.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """The rank of this process in the run."""
    return distributed.get_rank() if _is_distributed() else 0


def local_world_size() -> int:
    """The number of ranks on this machine."""
    if not _is_distributed():
        return 1
    names: list[str] = [""] * world_size()
    distributed.all_gather_object(names, socket.gethostname())
    return names.count(socket.gethostname())


def over_all_ranks(values: Tensor) -> Tensor:
    """The concatenated values of all ranks, which may have different numbers of them.

    Args:
        values: `[M]`.
    """
    return torch.cat(gather_all_tensors(values)) if _is_distributed() else values


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of the values of all ranks, `[M]` like those of each; bitwise the same on all."""
    if not _is_distributed():
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total


def of_any_rank(names: Iterable[str]) -> list[str]:
    """The names that at least one rank has, in the same order on all of them."""
    if not _is_distributed():
        return sorted(names)
    found: list[list[str]] = [[] for _ in range(world_size())]
    distributed.all_gather_object(found, list(names))
    return sorted({name for one in found for name in one})


def leave_other_ranks() -> None:
    """Close the connection to other ranks at the end of a run; does nothing without ranks.

    Otherwise gloo's threads outlive the interpreter, which sometimes aborts the process. Lightning
    treats that as a failure and kills the ranks that are still running.
    """
    if _is_distributed():
        distributed.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """Leave the other ranks at the end of a run.

    After an error a single process closes its connection, too, for there may be another run in it;
    one of several does not, since the others may be waiting.
    """
    try:
        yield
    except BaseException:
        if world_size() == 1:
            leave_other_ranks()
        raise
    leave_other_ranks()


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
