"""An update of weights as a function that can be differentiated: clipping, then Adam."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl2_lightning.learners.natural_gradient import as_vector

CLIPPING_EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True)
class AdamUpdate:
    """The next step of an Adam optimiser with one group of P numbers (arXiv 1412.6980).

    Attributes:
        first_moment: running mean of the gradients, `[P]`.
        second_moment: running mean of their squares, `[P]`.
        num_steps: number of steps taken.
        betas: decays of the two means.
        epsilon: Adam's epsilon.
        largest_norm: gradient norm above which a gradient is clipped first; None for no limit.
    """

    first_moment: Tensor
    second_moment: Tensor
    num_steps: int
    betas: tuple[float, float]
    epsilon: float
    largest_norm: float | None

    @classmethod
    def following(cls, optimizer: torch.optim.Optimizer, largest_norm: float | None) -> AdamUpdate:
        """The next step of an optimiser in its present state."""
        (group,) = optimizer.param_groups
        states = [optimizer.state.get(one, {}) for one in group["params"]]

        def moment(name: str) -> Tensor:
            pairs = zip(states, group["params"], strict=True)
            return as_vector([s.get(name, torch.zeros_like(p)) for s, p in pairs])

        return cls(
            moment("exp_avg").detach(),
            moment("exp_avg_sq").detach(),
            int(states[0].get("step", 0)),
            group["betas"],
            group["eps"],
            largest_norm,
        )

    def change(self, gradient: Tensor, rate: Tensor) -> Tensor:
        """The change of the weights, `[P]`, which the optimiser will make.

        Args:
            gradient: gradient before clipping, `[P]`.
            rate: learning rate, `[]`.
        """
        if self.largest_norm:
            limit = self.largest_norm / (gradient.norm() + CLIPPING_EPSILON)
            gradient = gradient * limit.clamp(max=1)
        first_decay, second_decay = self.betas
        step = self.num_steps + 1
        first = torch.lerp(gradient, self.first_moment, first_decay)
        second = second_decay * self.second_moment + (1 - second_decay) * gradient.square()
        unbiased = second / (1 - second_decay**step)
        # At 0 the root has no derivative; a weight that never had a gradient does not move.
        is_moved = unbiased > 0
        root = torch.where(is_moved, unbiased, 1).sqrt() * is_moved
        return -rate * first / (1 - first_decay**step) / (root + self.epsilon)

    def derivatives(
        self, gradient: Tensor, of_gradient: Tensor, rate: Tensor, of_rate: Tensor
    ) -> Tensor:
        """The derivatives of the change with respect to K numbers, `[K, P]`.

        Args:
            gradient: gradient before clipping, `[P]`.
            of_gradient: its derivatives, `[K, P]`.
            rate: learning rate, `[]`.
            of_rate: its derivatives, `[K]`.
        """

        def derivative(by_gradient: Tensor, by_rate: Tensor) -> Tensor:
            tangent: Tensor = torch.func.jvp(self.change, (gradient, rate), (by_gradient, by_rate))[
                1
            ]
            return tangent

        derived: Tensor = torch.func.vmap(derivative)(of_gradient, of_rate)
        return derived
