"""The contract of every reference player."""

from abc import ABC, abstractmethod

import torch
from tensordict import TensorDictBase
from torch import Tensor


class Oracle(ABC):
    """A reference player that knows the task family."""

    @abstractmethod
    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every task, all at once on the device of the tasks.

        Args:
            tasks: parameters of B tasks, batch size `[B]`.
            num_episodes: length of each trial, in episodes.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            Return of every episode, `[B, num_episodes]`, float32, in units of reward.
        """
