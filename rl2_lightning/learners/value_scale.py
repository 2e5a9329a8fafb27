"""The running scale of the critic's values."""

import torch
from torch import Tensor
from torchrl.modules import PopArtValueNorm

from rl2_lightning.errors import NonFiniteLossError


class ValueScale(PopArtValueNorm):
    """Mean and spread of the value targets, in which the critic works.

    Without it long trials, whose returns are large, do not learn. It remembers how long the trials
    were that it was measured on: where they become longer, returns grow with them, and to wait for
    it to follow by itself would leave the critic wrong for a hundred iterations.

    Args:
        decay: of the running means, an iteration.
    """

    trial_steps: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__(shape=1, beta=decay)
        self.register_buffer("trial_steps", torch.zeros((), dtype=torch.int64))

    def update(self, value_targets: Tensor) -> None:
        """Takes up the value targets `[N, 1]` of an iteration.

        Raises:
            NonFiniteLossError: their squares are beyond float32.
        """
        super().update(value_targets)
        if not self.running_mean_sq.isfinite():
            raise NonFiniteLossError(
                f"returns reach {value_targets.abs().max().item():.3g}, whose square is beyond "
                "float32: let the environment give its rewards in a smaller unit"
            )

    def follow(self, trial_steps: int) -> None:
        """Stretches the scale in proportion, where trials have another length than before.

        Args:
            trial_steps: most env steps of the trials to come.
        """
        before = int(self.trial_steps)
        if before:
            self.running_mean *= trial_steps / before
            self.running_mean_sq *= (trial_steps / before) ** 2
        self.trial_steps.fill_(trial_steps)
