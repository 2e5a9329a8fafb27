"""Tasks to play on."""

import torch
from tensordict import TensorDict
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.tabular_mdp import sample_mdps


def bandits(probabilities: Tensor) -> TensorDict:
    """Tasks with these arms, `[B, K]`."""
    return TensorDict({keys.ARM_PROBABILITIES: probabilities}, [len(probabilities)])


def random_bandits(num_tasks: int, num_arms: int, seed: int) -> TensorDict:
    """Tasks from the prior."""
    return bandits(torch.rand(num_tasks, num_arms, generator=seeded(seed)))


def mdps(mean_rewards: Tensor, transition_probabilities: Tensor) -> TensorDict:
    """Tasks with these mean rewards, `[B, S, A]`, and transitions, `[B, S, A, S]`."""
    return TensorDict(
        {
            keys.MEAN_REWARDS: mean_rewards,
            keys.TRANSITION_PROBABILITIES: transition_probabilities,
        },
        [len(mean_rewards)],
    )


def random_mdps(num_tasks: int, seed: int, num_states: int = 10, num_actions: int = 5):
    """Tasks from the prior."""
    return sample_mdps(num_tasks, num_states, num_actions, seeded(seed))


def seeded(seed: int, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)
