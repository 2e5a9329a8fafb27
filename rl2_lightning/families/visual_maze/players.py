"""A player that knows the maze."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.player import Player
from rl2_lightning.families.scene import GOAL
from rl2_lightning.families.visual_maze.layout import ways_to
from rl2_lightning.families.visual_maze.motion import (
    FORWARD,
    HEADINGS_PER_QUARTER,
    NUM_HEADINGS,
    ROUNDING,
    TURN_LEFT,
    TURN_RIGHT,
    WALLS,
)


class ShortestPath(Player):
    """Knows the maze, and takes the only path to the goal, from cell centre to cell centre."""

    privileged = True
    looks = False

    def start(self, tasks: TensorDictBase) -> Tensor:
        """The direction of the path from each cell, `[B, N, N]`, int64."""
        return ways_to(tasks[WALLS], tasks[GOAL].long().flip(1))

    def choose(self, memory: Tensor, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Turn in the middle of a cell, or move; the observation is x, y and heading, `[B, 3]`."""
        position, heading = observation[:, :2], observation[:, 2].long()
        column, row = position.long().unbind(1)
        rows = torch.arange(len(position), device=position.device)
        off = (HEADINGS_PER_QUARTER * memory[rows, row, column] - heading) % NUM_HEADINGS
        is_in_the_middle = ((position % 1 - 0.5).abs() < ROUNDING).all(1)
        turn = torch.where(off <= NUM_HEADINGS // 2, TURN_RIGHT, TURN_LEFT)
        return torch.where(is_in_the_middle & (off > 0), turn, FORWARD)
