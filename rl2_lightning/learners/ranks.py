"""Numbers that all ranks of a run agree on."""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors


def world_size() -> int:
    """How many ranks take part in the run."""
    return distributed.get_world_size() if _is_distributed() else 1


def over_all_ranks(values: Tensor) -> Tensor:
    """The values of all ranks one after the other; the ranks may have different numbers of them.

    Args:
        values: `[M]`.
    """
    return torch.cat(gather_all_tensors(values)) if _is_distributed() else values


def of_any_rank(names: Iterable[str]) -> list[str]:
    """The names that at least one rank has, in the same order on all of them."""
    if not _is_distributed():
        return sorted(names)
    found: list[list[str]] = [[] for _ in range(world_size())]
    distributed.all_gather_object(found, list(names))
    return sorted({name for one in found for name in one})


def leave_other_ranks() -> None:
    """Ends this rank's connection to the others; for the end of a run, and harmless without ranks.

    Else the threads of gloo outlive the interpreter, which now and then aborts the process; and
    Lightning takes that for a failure, and kills the ranks that are still at work.
    """
    if _is_distributed():
        distributed.destroy_process_group()


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
