"""Visual mazes (arXiv 1611.02779, section 3.3): their law, and the players that know it."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.maze_layout import sample_walls, ways_to
from rl2_lightning.oracles.oracle import Oracle

TURN_LEFT, TURN_RIGHT, FORWARD = range(3)
NUM_ACTIONS = 3
NUM_HEADINGS = 16  # 0 is east, 4 south: clockwise on a map whose rows go down
HEADINGS_PER_QUARTER = NUM_HEADINGS // 4
# A step repeats its action for four frames, of 5.625 degrees or a sixteenth of a cell each.
STRIDE = 0.25  # of a step forward, in cells
MARGIN = 0.2  # how near the agent's centre comes to a wall, in cells
REACH = 0.45  # from the goal at which it is reached, in cells

GOAL_REWARD = 1.0
WALL_REWARD = -0.001
STEP_REWARD = -0.01  # the authors' code; the paper prints -0.04

NUM_COLOURS = 8
_ROUNDING = 1e-4


class Pose(NamedTuple):
    """Where the agents are.

    Attributes:
        position: x, to the east, and y, to the south, in cells, `[B, 2]`, float32.
        heading: in sixteenths of a turn, `[B]`, int64.
    """

    position: Tensor
    heading: Tensor


def sample_mazes(num_tasks: int, size: int, generator: torch.Generator) -> TensorDict:
    """Draws mazes, with a start and a goal in two different cells.

    Args:
        num_tasks: B, mazes to draw.
        size: N, cells of a side.
        generator: source of all randomness.

    Returns:
        The walls with their colours, `[B, 2, N + 1, N]`, uint8, as `sample_walls` gives them; the
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
    return TensorDict(
        {
            keys.WALLS: walls,
            keys.GOAL: goal_position,
            keys.START: torch.cat([start_position, heading.unsqueeze(1)], dim=1),
        },
        [num_tasks],
        device,
    )


def start_pose(tasks: TensorDictBase) -> Pose:
    """Where the agents are when an episode of the tasks `[B]` begins."""
    start = tasks[keys.START]
    return Pose(start[:, :2], start[:, 2].long())


def unit_vectors(device: torch.device) -> Tensor:
    """The direction of each heading, x and y, `[NUM_HEADINGS, 2]`, float32; exact on the axes."""
    angles = 2 * math.pi * torch.arange(NUM_HEADINGS, dtype=torch.float64) / NUM_HEADINGS
    # Rounded, so that who walks along an axis stays on it.
    return torch.stack([angles.cos(), angles.sin()], dim=-1).round(decimals=12).float().to(device)


def move(walls: Tensor, pose: Pose, action: Tensor, vectors: Tensor) -> tuple[Pose, Tensor]:
    """Turns, or walks and slides along the walls.

    A cell without its margins is a room. The agent may be in all of a room, and in the doorways
    between the rooms of cells with no wall between them. That is the free space of a square body in
    a perfect maze, where a wall ends at every corner.

    Args:
        walls: as `sample_walls` gives them, `[B, 2, N + 1, N]`.
        pose: of the agents.
        action: `[B]`, int64.
        vectors: as `unit_vectors` gives them.

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
    """Moves along one axis, as far as walls allow."""
    corner = position.floor()
    across = (position - corner)[:, 1 - axis]
    # Who stands in a doorway to the side can neither leave the cell this way nor come near a wall.
    is_in_room = (across - 0.5).abs() < 0.5 - MARGIN + _ROUNDING
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


def outcome(position: Tensor, goal: Tensor, is_hit: Tensor) -> tuple[Tensor, Tensor]:
    """What a step earns.

    Args:
        position: where it has led to, `[B, 2]`.
        goal: `[B, 2]`.
        is_hit: whether a wall was in the way, `[B]`, bool.

    Returns:
        The reward, `[B]`, float32; and whether the goal is reached, `[B]`, bool.
    """
    is_reached = (position - goal).square().sum(1) < REACH**2
    return STEP_REWARD + WALL_REWARD * is_hit + GOAL_REWARD * is_reached, is_reached


class MazePlayer(Oracle):
    """A player of visual mazes that looks at nothing but its pose.

    Args:
        horizon: length at which an episode is cut, in env steps.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """See `Oracle.play`."""
        plan = self.plan(tasks)
        episodes = [self.play_episode(tasks, plan, generator)[0] for _ in range(num_episodes)]
        return torch.stack(episodes, dim=1)

    def play_episode(
        self, tasks: TensorDictBase, plan: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Plays an episode of every task.

        Args:
            tasks: as `sample_mazes` gives them, `[B]`.
            plan: what the player knows of them.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            Return of the episode, `[B]`, float32; and its length in env steps, `[B]`, int64.
        """
        walls, goal = tasks[keys.WALLS], tasks[keys.GOAL]
        vectors = unit_vectors(walls.device)
        pose = start_pose(tasks)
        earned = torch.zeros(len(walls), device=walls.device)
        length = torch.zeros_like(pose.heading)
        is_playing = torch.ones_like(length, dtype=torch.bool)
        for _ in range(self.horizon):
            pose, is_hit = move(walls, pose, self.act(pose, plan, generator), vectors)
            reward, is_reached = outcome(pose.position, goal, is_hit)
            earned = earned + torch.where(is_playing, reward, 0.0)
            length = length + is_playing
            is_playing = is_playing & ~is_reached
        return earned, length

    @abstractmethod
    def plan(self, tasks: TensorDictBase) -> Tensor:
        """What the player knows of the tasks `[B]`."""

    @abstractmethod
    def act(self, pose: Pose, plan: Tensor, generator: torch.Generator) -> Tensor:
        """The next action, `[B]`, int64."""


class RandomWalk(MazePlayer):
    """Takes each action with the same probability."""

    def plan(self, tasks: TensorDictBase) -> Tensor:
        """Nothing is planned."""
        return torch.empty(0)

    def act(self, pose: Pose, plan: Tensor, generator: torch.Generator) -> Tensor:
        """See `MazePlayer.act`."""
        shape, device = pose.heading.shape, pose.heading.device
        return torch.randint(NUM_ACTIONS, shape, generator=generator, device=device)


class ShortestPath(MazePlayer):
    """Knows the maze, and takes the one way to the goal, from the middle of a cell to the next."""

    def plan(self, tasks: TensorDictBase) -> Tensor:
        """In which direction the way goes on from each cell, `[B, N, N]`, int64."""
        return ways_to(tasks[keys.WALLS], tasks[keys.GOAL].long().flip(1))

    def act(self, pose: Pose, plan: Tensor, generator: torch.Generator) -> Tensor:
        """See `MazePlayer.act`."""
        cell = pose.position.long()
        rows = torch.arange(len(cell), device=cell.device)
        target = HEADINGS_PER_QUARTER * plan[rows, cell[:, 1], cell[:, 0]]
        off = (target - pose.heading) % NUM_HEADINGS
        is_in_the_middle = ((pose.position % 1 - 0.5).abs() < _ROUNDING).all(1)
        turn = torch.where(off <= NUM_HEADINGS // 2, TURN_RIGHT, TURN_LEFT)
        return torch.where(is_in_the_middle & (off > 0), turn, FORWARD)


def visual_maze_oracles(horizon: int) -> Mapping[str, Oracle]:
    """The players of visual mazes.

    Args:
        horizon: length at which an episode is cut, in env steps.

    Returns:
        Players by name; the one who knows the maze, which no learner does at first, last.
    """
    return {"random": RandomWalk(horizon), "shortest_path": ShortestPath(horizon)}
