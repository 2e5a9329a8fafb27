"""Seeds from counters, so that an iteration's randomness is independent of earlier ones."""

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """The purpose of a seed; no two purposes share a stream of random numbers."""

    NETWORK = 0
    ENVIRONMENT = 1
    ACTIONS = 2
    MINIBATCHES = 3
    VALIDATION_TASKS = 4
    TEST_TASKS = 5
    EVALUATION_ENVIRONMENT = 6
    EVALUATION_ACTIONS = 7


def derive_seed(purpose: Purpose, seed: int, *counters: int) -> int:
    """Derive a seed from a purpose, a run's seed and counters (rank, iteration, …).

    Returns:
        A seed below 2^63.
    """
    words = np.random.SeedSequence((purpose, seed, *counters)).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def permutation(length: int, seed: int, device: torch.device) -> Tensor:
    """A random permutation of `length` indices, `[length]`, int64."""
    generator = torch.Generator().manual_seed(seed)
    # From pinned memory it is copied without waiting for the work of a GPU.
    is_pinned = device.type == "cuda"
    order = torch.randperm(length, generator=generator, pin_memory=is_pinned)
    return order.to(device, non_blocking=is_pinned)
