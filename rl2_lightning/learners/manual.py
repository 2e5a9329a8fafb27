"""Manual optimisation with what Lightning does by itself in the automatic one."""

from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.learners.learner import Learner


class ManualLearner(Learner):
    """For methods with several optimisers, or with a gradient through an update.

    Lightning then clips no gradient, and refuses a trainer that is to. `step` does what the
    automatic optimisation does; precision and the count of steps are Lightning's own.

    Attributes:
        gradient_clip_val: largest norm of a gradient, from the trainer's settings; None for any.
    """

    automatic_optimization = False
    gradient_clip_val: float | None = None

    def step(self, index: int, loss: Tensor, **backward: Any) -> None:
        """One update of the parameters of one optimiser.

        Args:
            index: of the optimiser among those of `configure_optimizers`.
            loss: `[]`, of which the gradient is taken.
            **backward: options of `Tensor.backward`.

        Raises:
            NonFiniteLossError: the gradient is not finite.
        """
        optimizers = self.optimizers()
        optimizer = optimizers[index] if isinstance(optimizers, list) else optimizers
        optimizer.zero_grad()
        self.manual_backward(loss, **backward)
        optimizer.step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measures the gradient, and clips it; a scaler's factor is out of it by now."""
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        self.watch_gradient(parameters)
        if self.gradient_clip_val:
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip_val)
