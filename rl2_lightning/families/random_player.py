"""A player that acts at random."""

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, MultiCategorical, TensorSpec

from rl2_lightning.families.player import Player
from rl2_lightning.inputs import Observation


class RandomPlayer(Player):
    """Takes each action with the same probability.

    Args:
        action_spec: spec of one action, without the batch dimension: `Categorical`,
            `MultiCategorical` or `Bounded`.
    """

    looks = False

    def __init__(self, action_spec: TensorSpec) -> None:
        self._spec = action_spec

    def start(self, tasks: TensorDictBase) -> int:
        """The number of tasks."""
        return len(tasks)

    def choose(self, memory: int, observation: Observation, generator: torch.Generator) -> Tensor:
        """Sample uniformly; see `Player.choose`."""
        shape, device = (memory, *self._spec.shape), generator.device
        space = self._spec.space
        if isinstance(self._spec, MultiCategorical):  # which is a Categorical, too
            numbers = [
                torch.randint(one.n, shape[:1], generator=generator, device=device) for one in space
            ]
            return torch.stack(numbers, dim=-1)
        if isinstance(self._spec, Categorical):
            return torch.randint(space.n, shape, generator=generator, device=device)
        draw = torch.rand(shape, generator=generator, device=device)
        return space.low + (space.high - space.low) * draw
