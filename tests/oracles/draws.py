"""Bandits to play on."""

import torch
from tensordict import TensorDict
from torch import Tensor

from rl2_lightning import keys


def bandits(probabilities: Tensor) -> TensorDict:
    """Tasks with these arms, `[B, K]`."""
    return TensorDict({keys.ARM_PROBABILITIES: probabilities}, [len(probabilities)])


def random_bandits(num_tasks: int, num_arms: int, seed: int) -> TensorDict:
    """Tasks from the prior."""
    return bandits(torch.rand(num_tasks, num_arms, generator=seeded(seed)))


def seeded(seed: int, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)
