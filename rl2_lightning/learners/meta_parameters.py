"""The numbers of an inner update that are learnt by gradients through it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

DISCOUNTS = ("gamma", "gae_lambda")
FACTORS = ("entropy_coefficient", "value_coefficient", "learning_rate")
NAMES = (*DISCOUNTS, *FACTORS)


class MetaParameters(nn.Module):
    """γ and λ as sigmoids, and the others as positive factors of their settings, of free numbers.

    Args:
        learned: names of those that are learnt, among `NAMES`.
        discounts: γ and λ at the start, inside of (0, 1) where they are learnt.
    """

    def __init__(self, learned: Sequence[str], discounts: Mapping[str, float]) -> None:
        super().__init__()
        self.names = sorted(learned)  # as nn.ParameterDict sorts them
        self._discounts = dict(discounts)

        def start(name: str) -> float:
            value = discounts.get(name)
            return 0.0 if value is None else math.log(value / (1 - value))

        self.free = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(start(name))) for name in self.names}
        )

    def value(self, name: str) -> float | Tensor:
        """γ or λ, or the factor of another one; if it is learnt a tensor, `[]`, with gradients."""
        if name not in self.names:
            return self._discounts.get(name, 1.0)
        free: Tensor = self.free[name]
        return free.sigmoid() if name in DISCOUNTS else free.exp()

    def discounts(self) -> Tensor:
        """γ and λ, `[2]`, with gradients by those that are learnt."""
        some = next(iter(self.free.values()))
        return torch.stack([torch.as_tensor(self.value(name)).to(some) for name in DISCOUNTS])
