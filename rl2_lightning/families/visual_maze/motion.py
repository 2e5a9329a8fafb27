"""Mazes with starts and goals, and the motion of agents in them."""

import math
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning.families.scene import GOAL
from rl2_lightning.families.visual_maze.layout import sample_walls

START = "start"  # [B, 3], float32: x, y and heading at the start of episodes
WALLS = "walls"  # [B, 2, N + 1, N], uint8: 0 or the wall's colour, on the sides of N x N cells

TURN_LEFT, TURN_RIGHT, FORWARD = range(3)
NUM_ACTIONS = 3
NUM_HEADINGS = 16  # 0 is east, 4 south: clockwise on a map whose rows go down
HEADINGS_PER_QUARTER = NUM_HEADINGS // 4
# A step is four frames of the paper, of 5.625 degrees or a sixteenth of a cell each.
STRIDE = 0.25  # of a step forward, in cells
MARGIN = 0.2  # minimum distance of the agent's centre to a wall, in cells
NUM_COLOURS = 8
ROUNDING = 1e-4


class Pose(NamedTuple):
    """The poses of the agents.

    Attributes:
        position: x, to the east, and y, to the south, in cells, `[B, 2]`, float32.
        heading: in sixteenths of a turn, `[B]`, int64.
    """

    position: Tensor
    heading: Tensor


def sample_mazes(num_tasks: int, size: int, generator: torch.Generator) -> TensorDict:
    """Draw mazes with a start and a goal in two different cells.

    Args:
        num_tasks: B, mazes to draw.
        size: N, cells of a side.
        generator: source of all randomness.

    Returns:
        The walls with their colours, `[B, 2, N + 1, N]`, uint8, as returned by `sample_walls`; the
        centre of the goal's cell, x and y in cells, `[B, 2]`, float32; and x, y and heading at the
        start, `[B, 3]`, float32, in the middle of a cell and along one of the axes. Batch size
        `[B]`, on the device of the generator.
    """
    device = generator.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (num_tasks,), generator=generator, device=device)

    walls = sample_walls(num_tasks, size, NUM_COLOURS, generator)
    start = draw(size**2)
    goal = (start + 1 + draw(size**2 - 1)) % size**2
    heading = HEADINGS_PER_QUARTER * draw(4)
    start_position, goal_position = (
        torch.stack([cell % size, cell // size], dim=-1) + 0.5 for cell in (start, goal)
    )
    start_pose = torch.cat([start_position, heading.unsqueeze(1)], dim=1)
    entries = {WALLS: walls, GOAL: goal_position, START: start_pose}
    return TensorDict(entries, [num_tasks], device)


def start_pose(tasks: TensorDictBase) -> Pose:
    """The poses of the agents at the start of an episode of the tasks `[B]`."""
    start = tasks[START]
    return Pose(start[:, :2], start[:, 2].long())


def unit_vectors(device: torch.device) -> Tensor:
    """The direction of each heading, x and y, `[NUM_HEADINGS, 2]`, float32; exact on the axes."""
    angles = 2 * math.pi * torch.arange(NUM_HEADINGS, dtype=torch.float64) / NUM_HEADINGS
    # Rounded, so that motion along an axis stays on it.
    return torch.stack([angles.cos(), angles.sin()], dim=-1).round(decimals=12).float().to(device)


def move(walls: Tensor, pose: Pose, action: Tensor, vectors: Tensor) -> tuple[Pose, Tensor]:
    """Turn, or move and slide along walls.

    A cell without its margins is a room. The agent may be anywhere in a room, and in the doorways
    between the rooms of cells without a wall between them. That is the free space of a square body
    in a perfect maze, in which a wall ends at every corner.

    Args:
        walls: as returned by `sample_walls`, `[B, 2, N + 1, N]`.
        pose: pose of the agents.
        action: `[B]`, int64.
        vectors: as returned by `unit_vectors`.

    Returns:
        The new pose; and whether a wall was in the way, `[B]`, bool.
    """
    turn = (action == TURN_RIGHT).long() - (action == TURN_LEFT).long()
    heading = (pose.heading + turn) % NUM_HEADINGS
    stride = STRIDE * (action == FORWARD)
    wanted = pose.position + stride.unsqueeze(1) * vectors[heading]
    position, is_hit = _slide(walls, pose.position, wanted, axis=0)
    wanted = torch.stack([position[:, 0], wanted[:, 1]], dim=1)
    position, is_hit_too = _slide(walls, position, wanted, axis=1)
    return Pose(position, heading), is_hit | is_hit_too


def _slide(walls: Tensor, position: Tensor, wanted: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Move along one axis, as far as walls allow."""
    corner = position.floor()
    across = (position - corner)[:, 1 - axis]
    # In a doorway to the side, the agent can neither leave the cell this way nor approach a wall.
    is_in_room = (across - 0.5).abs() < 0.5 - MARGIN + ROUNDING
    line, row = corner[:, axis].long(), corner[:, 1 - axis].long()
    index = torch.arange(len(walls), device=walls.device)
    of_axis = walls[:, axis]
    can_go_back = is_in_room & (of_axis[index, line, row] == 0)
    can_go_on = is_in_room & (of_axis[index, line + 1, row] == 0)
    lowest = corner[:, axis] + torch.where(can_go_back, -1, MARGIN)
    highest = corner[:, axis] + 1 + torch.where(can_go_on, 1, -MARGIN)
    reached = wanted[:, axis].clamp(lowest, highest)
    moved = [reached, position[:, 1]] if axis == 0 else [position[:, 0], reached]
    return torch.stack(moved, dim=1), reached != wanted[:, axis]
