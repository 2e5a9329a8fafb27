"""Measure the rendering of mazes, in frames per second: `python -m benchmarks.rendering`.

Steps mazes and renders the view after each step, without an agent; on a GPU, if there is one.
"""

from statistics import median
from time import perf_counter

import torch
from rich import box, get_console
from rich.table import Table

from rl2_lightning.families.visual_maze import VisualMaze

SIZES = (3, 5, 9)
NUM_MAZES = 1000
STEPS, REPEATS = 10, 5


def frames_per_second(size: int, device: torch.device, num_mazes: int = NUM_MAZES) -> float:
    """The median rate of a few runs.

    Args:
        size: cells of a side.
        device: device of the mazes.
        num_mazes: number of mazes rendered at once.
    """
    env = VisualMaze(num_mazes, size=size, device=device)
    env.reset()
    action = env.action_spec.rand()
    everywhere = torch.ones(num_mazes, 1, dtype=torch.bool, device=device)

    def lap() -> float:
        start = perf_counter()
        for _ in range(STEPS):
            env.advance(action, everywhere)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - start

    lap()
    return STEPS * num_mazes / median(lap() for _ in range(REPEATS))


def main() -> None:
    """Print the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = Table(box=box.SIMPLE_HEAD, title=f"{NUM_MAZES} mazes on {device.type}")
    table.add_column("cells of a side", justify="right")
    table.add_column("frames/s", justify="right")
    for size in SIZES:
        table.add_row(str(size), f"{frames_per_second(size, device):,.0f}")
    get_console().print(table)


if __name__ == "__main__":
    main()
