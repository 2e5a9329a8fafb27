"""PPO with replay of earlier iterations' windows: a minimal replay source."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.data.sources import TrialSource
from rl2_lightning.learners.ppo import PPO

CAPACITY, BATCH_SIZE, LENGTH = 40, 8, 4
INDEX = "index"


class ReplaySource(TrialSource):
    """Samples minibatches by priority from the last collected windows."""

    def __init__(
        self, collect: Callable[[], TensorDictBase], shuffle_seed: Callable[[int], int]
    ) -> None:
        self.collect, self.shuffle_seed = collect, shuffle_seed
        self.windows: TensorDictBase | None = None
        self.priorities = torch.zeros(0)
        self.drawn = 0

    def __len__(self) -> int:
        return LENGTH

    def begin(self) -> None:
        new = self.collect()
        kept = new if self.windows is None else torch.cat([self.windows, new])
        self.windows = kept[-CAPACITY:]
        self.priorities = torch.cat([self.priorities, torch.ones(len(new))])[-CAPACITY:]
        self.drawn = 0

    def next(self) -> TensorDictBase:
        assert self.windows is not None
        generator = torch.Generator().manual_seed(self.shuffle_seed(self.drawn))
        index = torch.multinomial(self.priorities, BATCH_SIZE, generator=generator)
        self.drawn += 1
        return self.windows[index].set(INDEX, index)

    def feedback(self, indices: Tensor, priorities: Tensor) -> None:
        self.priorities[indices] = priorities

    def state_dict(self) -> dict[str, Any]:
        assert self.windows is not None
        return {"windows": self.windows.to_dict(), "priorities": self.priorities}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.priorities = state_dict["priorities"]
        windows = TensorDict(state_dict["windows"], [len(self.priorities)])
        windows.get(keys.WINDOW).auto_batch_size_(2)
        self.windows = windows


class ReplayPPO(PPO):
    """Replays surprising windows more often."""

    source: ReplaySource

    def make_source(self, collect, shuffle_seed) -> ReplaySource:
        self.source = ReplaySource(collect, shuffle_seed)
        return self.source

    def training_step(self, minibatch: TensorDictBase, batch_index: int) -> Tensor:
        loss = super().training_step(minibatch, batch_index)
        surprise = minibatch[keys.WINDOW, keys.ADVANTAGE].abs().mean(dim=(1, 2))
        self.source.feedback(minibatch[INDEX], surprise + 0.01)
        return loss
