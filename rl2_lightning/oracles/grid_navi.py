"""GridNavi (arXiv 1910.08348, section 5.1): how it answers, and its reference players."""

from abc import abstractmethod

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.oracle import Oracle

MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))  # stay, up, right, down, left: rows, columns
_, UP, RIGHT, DOWN, LEFT = range(len(MOVES))
GOAL_REWARD = 1.0
STEP_REWARD = -0.1


def goal_cells(size: int) -> Tensor:
    """The cells that can hold the goal: all but the start, in the corner, and the three next to it.

    Args:
        size: cells of a side.

    Returns:
        Indices of cells, row by row, `[size² - 4]`, int64.
    """
    cells = torch.arange(size**2)
    return cells[(cells // size > 1) | (cells % size > 1)]


def known_goal_returns(size: int, horizon: int) -> Tensor:
    """The best return of an episode whose goal is known, for each cell that may hold it.

    Args:
        size: cells of a side.
        horizon: length of an episode, in env steps.

    Returns:
        `[size²]`, float64.
    """
    cells = torch.arange(size**2)
    walking = (cells // size + cells % size - 1).clamp(max=horizon).double()
    return STEP_REWARD * walking + GOAL_REWARD * (horizon - walking)


def move(position: Tensor, action: Tensor, size: int) -> Tensor:
    """Where actions lead to; a wall lets nobody through.

    Args:
        position: rows and columns, `[B, 2]`, float32.
        action: index of `MOVES`, `[B]`, int64.
        size: cells of a side.
    """
    # A table of moves would have to be copied to the device at each step.
    down = (action == DOWN).to(position.dtype) - (action == UP).to(position.dtype)
    right = (action == RIGHT).to(position.dtype) - (action == LEFT).to(position.dtype)
    return (position + torch.stack([down, right], dim=-1)).clamp(0, size - 1)


def reward_at(position: Tensor, goal: Tensor) -> Tensor:
    """What a step that ends at positions `[B, 2]` earns, for goals `[B, 2]`; `[B, 1]`, float32."""
    arrived = (position == goal).all(-1, keepdim=True)
    return torch.where(arrived, GOAL_REWARD, STEP_REWARD)


class GridPlayer(Oracle):
    """A player of one size of grid.

    Args:
        size: cells of a side.
        horizon: length of an episode, in env steps.
    """

    def __init__(self, size: int, horizon: int) -> None:
        self.size = size
        self.horizon = horizon


class RandomWalk(GridPlayer):
    """Takes each action with the same probability."""

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """See `Oracle.play`."""
        goal = tasks[keys.GOAL]
        returns = []
        for _ in range(num_episodes):
            position, total = torch.zeros_like(goal), torch.zeros(len(goal), 1, device=goal.device)
            for _ in range(self.horizon):
                action = torch.randint(
                    len(MOVES), (len(goal),), generator=generator, device=goal.device
                )
                position = move(position, action, self.size)
                total = total + reward_at(position, goal)
            returns.append(total)
        return torch.cat(returns, dim=1)


class PlannedPlayer(GridPlayer):
    """A player whose returns follow from the goal alone."""

    @abstractmethod
    def returns_by_cell(self, num_episodes: int) -> Tensor:
        """Return of each episode where the goal is in a cell, `[size², num_episodes]`, float32."""

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """See `Oracle.play`; nothing is drawn."""
        row, column = tasks[keys.GOAL].long().unbind(-1)
        return self.returns_by_cell(num_episodes).to(row.device)[row * self.size + column]


class KnownGoal(PlannedPlayer):
    """Knows where the goal is: a bound on what any player can earn."""

    def returns_by_cell(self, num_episodes: int) -> Tensor:
        """The same in each episode; see `PlannedPlayer.returns_by_cell`."""
        returns = known_goal_returns(self.size, self.horizon).float()
        return returns.unsqueeze(1).expand(-1, num_episodes)
