"""Linear attention with decay (arXiv 2006.16236, 2312.06635): keys write, queries read.

Each step updates the matrix, S <- a S + k v^T, and reads q S from it. The decay a is one number for
each head.
"""

import math

import torch
from torch import Tensor

from rl2_lightning.agents.memories.memory import wants_state
from rl2_lightning.cuda_graphs import is_recorded

# Maximum number of steps whose reads are computed at once. The speed is the same from 64 to 128:
# longer chunks compute larger products of [steps, steps], shorter ones store more matrices for the
# backward pass.
CHUNK = 128


def write_and_read(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One step.

    Args:
        query: `[B, G, D]`, float; B trials, G heads of width D.
        key: `[B, G, D]`.
        value: `[B, G, D]`.
        log_decay: logarithm of the decay a, `[G]`.
        state: the matrix before the step, `[B, G, D, D]`, keys by values.

    Returns:
        The read, `[B, G, D]`, and the matrix after the step.
    """
    # In place on the new matrix: a tensor for what is written would take twice the time.
    state = state * log_decay.exp()[:, None, None]
    state = state.addcmul_(key.unsqueeze(-1), value.unsqueeze(-2))
    return (query.unsqueeze(-2) @ state).squeeze(-2), state


def write_and_read_all(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """All steps of a window, with the results of `write_and_read` step by step.

    It works chunk by chunk (arXiv 2312.06635, section 3): writes within a chunk are read by a
    masked product, earlier ones from the matrix. Time and memory are linear in T.

    Within `features_only()` the last chunk is not written.

    Args:
        query: `[B, G, T, D]`, float.
        key: `[B, G, T, D]`.
        value: `[B, G, T, D]`.
        log_decay: `[G]`.
        state: the matrix before the first step, `[B, G, D, D]`.

    Returns:
        The reads, `[B, G, T, D]`, and the matrix after the last step.
    """
    reads = []
    is_empty = _is_known_to_be_empty(state)
    num_chunks = math.ceil(query.shape[-2] / CHUNK)
    chunks = (entry.chunk(num_chunks, dim=-2) for entry in (query, key, value))
    for number, (q, k, v) in enumerate(zip(*chunks, strict=True), start=1):
        length = q.shape[-2]
        time = torch.arange(length, device=q.device)
        age = (time.unsqueeze(-1) - time).clamp(min=0)
        weights = (age * log_decay[:, None, None]).exp().tril()
        # What remains of the matrix before the chunk at each step, and of each write at the chunk's
        # end.
        left = ((time + 1) * log_decay.unsqueeze(-1)).exp().unsqueeze(-1)
        kept = weights[:, -1].unsqueeze(-1)
        read = (q @ k.mT * weights) @ v
        reads.append(read if is_empty else read + (q * left) @ state)
        if number < num_chunks or wants_state():
            state = state * left[:, -1:] + (k * kept).mT @ v
            is_empty = False
    return reads[0] if len(reads) == 1 else torch.cat(reads, dim=-2), state


def may_look_at(tensor: Tensor) -> bool:
    """Whether a decision may depend on the numbers; on another device this would synchronise."""
    is_constant = torch.compiler.is_compiling() or is_recorded()
    return tensor.device.type == "cpu" and not is_constant


def _is_known_to_be_empty(state: Tensor) -> bool:
    """Whether the matrix is known to be zero, as at the start of trials."""
    one_for_all = state[:1] if state.stride(0) == 0 else state
    return may_look_at(state) and not state.requires_grad and not one_for_all.any()
