"""A user-defined memory: running means of the inputs, with learnt decays."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.agents.memories.memory import Memory, State
from rl2_lightning.settings import Settings, between, make_settings


@dataclass
class LeakySettings(Settings):
    """What can be set.

    Attributes:
        num_means: H, number of running means.
    """

    num_means: int = between(1, default=32)


class Leaky(Memory):
    """Updates `m <- d m + (1 - d) tanh(W x + b)`; the state is m, `[B, H]`."""

    Settings = LeakySettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.output_size = make_settings(LeakySettings, settings, "memory").num_means
        self.layer = nn.Linear(input_size, self.output_size)
        self.decay = nn.Parameter(torch.linspace(0, 3, self.output_size))

    def initial_state(self, num: int) -> State:
        return (torch.zeros(num, self.output_size, device=self.decay.device),)

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        mean = torch.lerp(torch.tanh(self.layer(encoding)), state[0], torch.sigmoid(self.decay))
        return mean, (mean,)

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        means = []
        for one in encoding.unbind(dim=1):
            mean, state = self.step(one, state)
            means.append(mean)
        return torch.stack(means, dim=1), state
