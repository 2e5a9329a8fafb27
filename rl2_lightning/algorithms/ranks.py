"""Numbers that all ranks of a run agree on."""

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


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
