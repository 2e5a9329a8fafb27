"""A cache of the last steps of a trial, and attention over it.

A cache is a tensor `[B, L, ...]` of the last L steps, the newest one last, with a count `[B, 1]`,
int64, of the steps that each row has taken: rows may be at different steps of their trials. Entries
before a trial's first step are zero.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rl2_lightning.agents.memories.memory import wants_second_derivatives
from rl2_lightning.cuda_graphs import is_recorded


def extend(cache: Tensor, steps: Tensor, num_past: int) -> tuple[Tensor, Tensor]:
    """Append the steps of a window to a cache.

    Args:
        cache: `[B, L, ...]`.
        steps: `[B, T, ...]`; converted to the dtype of the cache, so that the state keeps its
            dtype.
        num_past: P, number of steps of the cache that are attended to.

    Returns:
        The steps that the window attends to, `[B, P + T, ...]`, and the cache after it.
    """
    length, num_steps = cache.shape[1], steps.shape[1]
    # Even with weight zero, a NaN in a later, idle step would spread to the steps before it.
    steps = steps.to(cache.dtype).nan_to_num(0.0, 0.0, 0.0)
    looked_at = torch.cat([cache[:, length - num_past :], steps], dim=1)
    if looked_at.shape[1] >= length:
        return looked_at, looked_at[:, -length:]
    return looked_at, torch.cat([cache[:, num_steps : length - num_past], looked_at], dim=1)


def longest_past(count: Tensor, length: int) -> int:
    """The number of valid steps in a cache of L steps, in the row with the most.

    Attending only to these saves half of the work if a window is a whole trial. It synchronises
    with the device, so use it for windows, not for single steps. Where operations are recorded, it
    is L: they do not depend on numbers.
    """
    if is_recorded():
        return length
    return min(int(count.max()), length) if len(count) else 0


def seen_steps(count: Tensor, num_past: int, num_steps: int, length: int) -> Tensor | None:
    """Which steps each step of a window attends to: itself and the L - 1 steps before it.

    Args:
        count: number of steps of each row before the window, `[B, 1]`, int64.
        num_past: P, number of cached steps before the window.
        num_steps: T.
        length: L, length of the cache.

    Returns:
        `[B, T, P + T]`, bool; None if the mask is just causal.
    """
    if num_past == 0 and num_steps <= length:
        return None
    place = torch.arange(num_past + num_steps, device=count.device)
    distance = place[num_past:].unsqueeze(1) - place
    is_taken = place >= num_past - count
    return (distance >= 0) & (distance < length) & is_taken.unsqueeze(1)


def attend(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """Attention over past steps (arXiv 1706.03762, equation 1).

    Args:
        query: `[B, T, heads, K]`, float.
        keys: `[B, P + T, heads, K]`, float.
        values: `[B, P + T, heads, V]`, float.
        seen: mask as returned by `seen_steps`.

    Returns:
        `[B, T, heads * V]`, float.
    """
    query, keys, values = (part.transpose(1, 2) for part in (query, keys, values))
    if wants_second_derivatives():
        read = _plain_attention(query, keys, values, seen)
    elif seen is None:
        read = scaled_dot_product_attention(query, keys, values, is_causal=True)
    else:
        read = scaled_dot_product_attention(query, keys, values, attn_mask=seen.unsqueeze(1))
    return read.transpose(1, 2).flatten(2)


def _plain_attention(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """Like PyTorch's attention, but twice differentiable; `[B, heads, T, ...]`."""
    scores = query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5
    mask = torch.ones_like(scores[:, 0], dtype=torch.bool).tril() if seen is None else seen
    return scores.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1) @ values
