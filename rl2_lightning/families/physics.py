"""Random physics of tasks, and a regulator that knows it."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

NUM_DOUBLINGS = 24  # of the horizon of a regulator

# Entries of tasks, [B, 1], float32, like all physics.
GRAVITY = "gravity"  # metres a second squared
FORCE_SIGN = "force_sign"  # 1, or -1 where actions are reversed


def draw_physics(
    num_tasks: int,
    ranges: Mapping[str, Sequence[float]],
    flips: bool,
    generator: torch.Generator,
) -> TensorDict:
    """Draw the physics of tasks on the device of the generator.

    Args:
        num_tasks: B, tasks to draw.
        ranges: range of each quantity, from which it is drawn uniformly.
        flips: whether the force is reversed in half of the tasks.
        generator: source of all randomness.

    Returns:
        Each quantity, and `FORCE_SIGN`, 1 or -1: `[B, 1]`, float32.
    """
    device = generator.device
    draw = torch.rand(num_tasks, len(ranges) + 1, generator=generator, device=device)
    tasks = TensorDict(batch_size=[num_tasks], device=device)
    for column, (name, (low, high)) in enumerate(ranges.items()):
        tasks[name] = low + (high - low) * draw[:, column : column + 1]
    turned = (draw[:, -1:] < 0.5) & flips
    tasks[FORCE_SIGN] = torch.where(turned, -1.0, 1.0)
    return tasks


def regulator_gain(
    transition: Tensor, control: Tensor, state_cost: Sequence[float], control_cost: float
) -> Tensor:
    """The linear-quadratic regulator of many systems.

    The state follows s' = A s + b u, and a step costs s^T Q s + r u^2. The cost over an infinite
    horizon is minimal with u = -k s. The discrete-time algebraic Riccati equation for it is solved
    by structure-preserving doubling (Chu, Fan and Lin 2005, Linear Algebra and its Applications),
    for all systems at once.

    Args:
        transition: A, `[B, N, N]`.
        control: b, `[B, N]`, such that A can be stabilised.
        state_cost: the diagonal of Q, N numbers, not negative.
        control_cost: r, positive.

    Returns:
        k, `[B, N]`, of the dtype of A.
    """
    b = control.unsqueeze(-1)
    cost = transition.new_tensor(state_cost).diag()
    identity = torch.eye(len(cost)).to(cost)
    a, g, h = transition, b @ b.mT / control_cost, cost.expand_as(transition)
    for _ in range(NUM_DOUBLINGS):
        inverse = torch.linalg.inv(identity + g @ h)
        a, g, h = a @ inverse @ a, g + a @ inverse @ g @ a.mT, h + a.mT @ h @ inverse @ a
    return ((b.mT @ h @ transition) / (control_cost + b.mT @ h @ b)).squeeze(1)
