"""Draw windows from a replay buffer by priority."""

from typing import Any

import torch
from torch import Tensor
from torchrl.data.replay_buffers import Sampler, Storage

from rl2_lightning import keys

SMALLEST_PRIORITY = 1e-6  # so that every window can be drawn


class PrioritySampler(Sampler):
    """Draws windows with replacement, with probabilities proportional to powers of priorities.

    New windows get the largest priority in the buffer (after arXiv 1511.05952, algorithm 1).
    TorchRL's own `PrioritizedSampler` needs a compiled extension that only loads beside the PyTorch
    version that it was built with. Here a draw takes time linear in the number of windows, of which
    there are far fewer than steps.

    Args:
        capacity: maximum number of windows.
        priority_exponent: exponent of the priorities.
        importance_exponent: exponent of the importance weights.

    Attributes:
        priorities: `[capacity]`, float64.
    """

    def __init__(self, capacity: int, priority_exponent: float, importance_exponent: float) -> None:
        self.priorities = torch.zeros(capacity, dtype=torch.float64)
        self._exponent = priority_exponent
        self._importance_exponent = importance_exponent

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Any]]:
        """Indices, `[N]`, and their importance weights, (N P)^-β, `[N]`, float32."""
        powers = self.priorities[: len(storage)].clamp(min=SMALLEST_PRIORITY) ** self._exponent
        index = torch.multinomial(powers, batch_size, replacement=True, generator=self._rng)
        shares = powers[index] / powers.sum()
        weights = (len(storage) * shares) ** -self._importance_exponent
        return index, {keys.WEIGHT: weights.float()}

    def extend(self, index: Tensor) -> None:
        """Give new windows the largest priority in the buffer."""
        largest = self.priorities.max().item()
        self.priorities[index] = largest if largest > 0 else 1.0

    def update_priority(
        self, index: int | Tensor, priority: float | Tensor, *, storage: Storage | None = None
    ) -> None:
        """Set priorities."""
        self.priorities[index] = torch.as_tensor(priority).to(self.priorities)

    def state_dict(self) -> dict[str, Any]:
        """The priorities."""
        return {"priorities": self.priorities}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the priorities."""
        self.priorities.copy_(state_dict["priorities"])

    def _empty(self) -> None:
        self.priorities.zero_()

    def dumps(self, path: Any) -> None:
        """Not supported: use `state_dict`."""
        raise NotImplementedError

    def loads(self, path: Any) -> None:
        """Not supported: use `load_state_dict`."""
        raise NotImplementedError
