"""The reference players of GridNavi, whose returns follow from the goal alone."""

from abc import abstractmethod
from functools import lru_cache

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.grid_navi.goal_search import (
    GOAL_REWARD,
    STEP_REWARD,
    GoalSearch,
    known_goal_returns,
)
from rl2_lightning.families.player import ClosedFormPlayer
from rl2_lightning.families.scene import GOAL

MAX_SIZE = 5  # 6 x 6 cells take ten seconds, and larger grids more


class PlannedPlayer(ClosedFormPlayer):
    """A player for one size of the grid.

    Args:
        size: cells of a side.
        horizon: length of an episode, in env steps.
    """

    def __init__(self, size: int, horizon: int) -> None:
        self.size = size
        self.horizon = horizon

    @abstractmethod
    def returns_by_cell(self, num_episodes: int) -> Tensor:
        """The return of each episode for each goal, `[size², num_episodes]`, float32."""

    def returns(
        self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator
    ) -> Tensor:
        """See `ClosedFormPlayer.returns`; deterministic."""
        row, column = tasks[GOAL].long().unbind(-1)
        return self.returns_by_cell(num_episodes).to(row.device)[row * self.size + column]


class KnownGoal(PlannedPlayer):
    """Knows the goal: an upper bound for any player."""

    privileged = True

    def returns_by_cell(self, num_episodes: int) -> Tensor:
        """The same in each episode; see `PlannedPlayer.returns_by_cell`."""
        returns = known_goal_returns(self.size, self.horizon).float()
        return returns.unsqueeze(1).expand(-1, num_episodes)


class BayesOptimal(PlannedPlayer):
    """Searches for the goal optimally, and goes straight to it once it is found."""

    def returns_by_cell(self, num_episodes: int) -> Tensor:
        """See `PlannedPlayer.returns_by_cell`."""
        first_visit = _first_visits(self.size, self.horizon, num_episodes).unsqueeze(1)
        begins = self.horizon * torch.arange(num_episodes)
        # Steps of each episode before the one that finds the goal.
        searching = (first_visit - 1 - begins).clamp(0, self.horizon)
        returns = STEP_REWARD * searching + GOAL_REWARD * (self.horizon - searching)
        is_known = first_visit <= begins
        known = known_goal_returns(self.size, self.horizon).unsqueeze(1)
        return torch.where(is_known, known, returns).float()


@lru_cache
def _first_visits(size: int, horizon: int, num_episodes: int) -> Tensor:
    """Cached, because the best search is the same for all chunks of tasks."""
    return torch.as_tensor(GoalSearch(size, horizon, num_episodes).first_visits)
