"""Operations for which a GPU has to be waited, or that copy data to it: no graph can have them."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "_local_scalar_dense",  # reads a number
    "equal",
    "is_nonzero",
    "item",
    "lift_fresh",  # makes a tensor of Python numbers, on the CPU
    "masked_scatter",
    "masked_select",
    "nonzero",
}


class Watch(TorchDispatchMode):
    """Notes the names of the operations that are executed.

    Attributes:
        seen: all of them; a selection by a mask is a "nonzero".
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.overloadpacket.__name__)
        if func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_):
            by_mask = any(one is not None and one.dtype == torch.bool for one in args[1])
            self.seen |= {"nonzero"} if by_mask else set()
        return func(*args, **(kwargs or {}))
