"""Entries of the steps of all ranks, and what is normalised by them."""

import torch
from torch import Tensor

from rl2_lightning.errors import UserError
from rl2_lightning.learners.ranks import over_all_ranks

SMALL = 1e-8


def normalised(advantages: Tensor, all_advantages: Tensor) -> Tensor:
    """Advantages, `[...]`, with mean 0 and standard deviation 1 over those of all ranks, `[M]`."""
    return (advantages - all_advantages.mean()) / all_advantages.std().clamp(min=SMALL)


def pooled(mask: Tensor, *entries: Tensor) -> list[Tensor]:
    """The entries `[M]` of the steps that count, over all ranks.

    Args:
        mask: which steps count, `[B, T, 1]`, bool.
        *entries: entries of the steps, `[B, T, 1]`.

    Raises:
        UserError: fewer than two steps count.
    """
    is_full = bool(mask.all())  # then no selection is needed
    found = [over_all_ranks(entry.flatten() if is_full else entry[mask]) for entry in entries]
    if len(found[0]) < 2:
        raise UserError(
            f"an iteration of {len(found[0])} env steps has no spread to learn from: raise "
            "collection.num_trials"
        )
    return found


def normalised_derivatives(advantages: Tensor, derivatives: Tensor, mask: Tensor) -> Tensor:
    """The derivatives of advantages that are normalised over all ranks.

    Args:
        advantages: advantages before they are normalised, `[B, T, 1]`.
        derivatives: their derivatives with respect to K numbers, `[B, T, K]`.
        mask: which steps count, `[B, T, 1]`, bool.

    Returns:
        `[B, T, K]`.
    """
    found = []
    for changes in derivatives.split(1, dim=-1):
        all_advantages, all_changes = pooled(mask, advantages, changes)
        at, direction = (advantages, all_advantages), (changes, all_changes)
        found.append(torch.func.jvp(normalised, at, direction)[1])
    return torch.cat(found, dim=-1)
