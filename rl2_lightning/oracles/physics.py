"""Physics that is drawn anew for each task."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict

from rl2_lightning import keys

Range = tuple[float, float]


def draw_physics(
    num_tasks: int, ranges: Mapping[str, Range], flips: bool, generator: torch.Generator
) -> TensorDict:
    """Draws the physics of tasks, on the device of the generator.

    Args:
        num_tasks: B, tasks to draw.
        ranges: of each quantity, from which it is drawn uniformly.
        flips: whether the force is turned round in half of the tasks.
        generator: source of all randomness.

    Returns:
        Each quantity, and `keys.FORCE_SIGN`, 1 or -1: `[B, 1]`, float32.
    """
    device = generator.device
    draw = torch.rand(num_tasks, len(ranges) + 1, generator=generator, device=device)
    tasks = TensorDict(batch_size=[num_tasks], device=device)
    for column, (name, (low, high)) in enumerate(ranges.items()):
        tasks[name] = low + (high - low) * draw[:, column : column + 1]
    turned = (draw[:, -1:] < 0.5) & flips
    tasks[keys.FORCE_SIGN] = torch.where(turned, -1.0, 1.0)
    return tasks
