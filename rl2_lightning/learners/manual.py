"""Manual optimisation, with the features of Lightning's automatic optimisation."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from rl2_lightning.learners.learner import Learner


class ManualLearner(Learner):
    """The base of methods with several optimisers, or with a gradient through an update.

    Lightning does not clip gradients in manual optimisation, and rejects a trainer that is set to.
    `step` does what automatic optimisation does; Lightning still handles precision and counts
    steps.

    Attributes:
        gradient_names: names of the diagnostics with the norms of the optimisers' gradients, in the
            order of `configure_optimizers`; without any, one name for all.
        gradient_clip_val: maximum gradient norm, from the trainer's settings; None for no clipping.
    """

    automatic_optimization = False
    gradient_names: ClassVar[Sequence[str]] = ()
    gradient_clip_val: float | None = None

    def step(self, index: int, loss: Tensor, **backward: Any) -> None:
        """Update the parameters of one optimiser.

        Args:
            index: index of the optimiser among those of `configure_optimizers`.
            loss: the loss to differentiate, `[]`.
            **backward: options of `Tensor.backward`.

        Raises:
            NonFiniteLossError: the gradient is not finite.
        """
        optimizer = self.optimizer_at(index)
        optimizer.zero_grad()
        self.manual_backward(loss, **backward)
        optimizer.step()

    def apply_gradients(self, index: int, gradients: Iterable[Tensor]) -> None:
        """Update the parameters of one optimiser with gradients that have been computed.

        DDP takes no notice: they have to be the same on all ranks.

        Args:
            index: index of the optimiser among those of `configure_optimizers`.
            gradients: the gradients of its parameters, in their order.

        Raises:
            NonFiniteLossError: the gradient is not finite.
        """
        optimizer = self.optimizer_at(index)
        for parameter, gradient in zip(parameters_of(optimizer.optimizer), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def optimizer_at(self, index: int) -> LightningOptimizer:
        """One of the optimisers of `configure_optimizers`, by its index."""
        optimizers = self.optimizers()
        return optimizers[index] if isinstance(optimizers, list) else optimizers

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure and clip the gradient, which is already unscaled."""
        parameters = parameters_of(optimizer)
        name = "gradient_norm"
        if self.gradient_names:
            own = [self.optimizer_at(i).optimizer for i in range(len(self.gradient_names))]
            name = self.gradient_names[[one is optimizer for one in own].index(True)]
        self.watch_gradient(parameters, name)
        if self.gradient_clip_val:
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip_val)


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters that an optimiser updates."""
    return [one for group in optimizer.param_groups for one in group["params"]]
