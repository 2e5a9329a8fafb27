"""The linear-quadratic regulator, for many systems at once."""

import torch
from torch import Tensor

NUM_DOUBLINGS = 24  # each of which looks twice as far ahead


def regulator_gain(
    transition: Tensor, control: Tensor, state_cost: Tensor, control_cost: float
) -> Tensor:
    """Solves the discrete-time algebraic Riccati equation by structure-preserving doubling.

    The state follows s' = A s + b u, and a step costs s^T Q s + r u^2. The cost over an endless
    time is least with u = -k s. Source: Chu, Fan and Lin 2005, Linear Algebra and its Applications.

    Args:
        transition: A, `[B, N, N]`.
        control: b, `[B, N, 1]`, by which A can be made stable.
        state_cost: the diagonal of Q, `[N]`, not negative.
        control_cost: r, positive.

    Returns:
        k, `[B, 1, N]`, of the dtype of A.
    """
    identity = torch.eye(transition.shape[-1]).to(transition)
    a, g = transition, control @ control.mT / control_cost
    h = state_cost.diag().to(transition).expand_as(transition)
    for _ in range(NUM_DOUBLINGS):
        inverse = torch.linalg.inv(identity + g @ h)
        a, g, h = (
            a @ inverse @ a,
            g + a @ inverse @ g @ a.mT,
            h + a.mT @ h @ inverse @ a,
        )
    return (control.mT @ h @ transition) / (control_cost + control.mT @ h @ control)
