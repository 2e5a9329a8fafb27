"""The running scale of the critic's values."""

import torch
from torch import Tensor
from torchrl.modules import PopArtValueNorm

from rl2_lightning.data.readings import Readings
from rl2_lightning.errors import NonFiniteLossError


class ValueScale(PopArtValueNorm):
    """Running mean and standard deviation of the value targets, in which the critic works.

    Without it nothing is learnt on long trials, whose returns are large. It stores the length of
    the trials that it was measured on. When trials become longer, returns grow with them; if the
    scale only followed by its running means, the critic would be wrong for a hundred iterations.

    Args:
        decay: decay per iteration of the running means.
    """

    trial_steps: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__(shape=1, beta=decay)
        self.register_buffer("trial_steps", torch.zeros((), dtype=torch.int64))
        self._readings = Readings()

    def update(self, value_targets: Tensor) -> None:
        """Update the scale with the value targets `[N, 1]` of an iteration.

        Raises:
            NonFiniteLossError: they are not finite, or their squares overflow float32; the scale
                stays as it was.
        """
        if not value_targets.square().mean().isfinite():
            raise NonFiniteLossError(
                f"returns reach {value_targets.abs().max().item():.3g}, whose square is beyond "
                "float32: scale down the rewards of the environment"
            )
        super().update(value_targets)

    def follow(self, trial_steps: int) -> None:
        """Rescale in proportion when the length of trials changes.

        Args:
            trial_steps: maximum number of env steps of the coming trials.
        """
        before = self._readings.number("trial_steps", self.trial_steps)
        if before == trial_steps:
            return
        if before:
            self.running_mean *= trial_steps / before
            self.running_mean_sq *= (trial_steps / before) ** 2
        self.trial_steps.fill_(trial_steps)
        self._readings.note("trial_steps", self.trial_steps, trial_steps)
