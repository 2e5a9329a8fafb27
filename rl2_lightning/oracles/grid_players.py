"""The reference players of GridNavi, together."""

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from rl2_lightning.oracles.goal_search import GoalSearch
from rl2_lightning.oracles.grid_navi import (
    GOAL_REWARD,
    STEP_REWARD,
    KnownGoal,
    PlannedPlayer,
    RandomWalk,
    known_goal_returns,
)
from rl2_lightning.oracles.oracle import Oracle

MAX_SIZE = 5  # 6 x 6 cells take ten seconds, and more with each cell


class BayesOptimal(PlannedPlayer):
    """Searches for the goal in the best possible way, and goes straight there once it is found."""

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
    """The best search is the same for all tasks, which are played chunk by chunk."""
    return torch.as_tensor(GoalSearch(size, horizon, num_episodes).first_visits)


def grid_navi_oracles(size: int, horizon: int) -> Mapping[str, Oracle]:
    """The players of GridNavi.

    Args:
        size: cells of a side.
        horizon: length of an episode, in env steps.

    Returns:
        Players by name; the reference, which does not know the goal if it can be computed, last.
    """
    players: dict[str, Oracle] = {
        "random": RandomWalk(size, horizon),
        "known_goal": KnownGoal(size, horizon),
    }
    if size <= MAX_SIZE:
        players["bayes_optimal"] = BayesOptimal(size, horizon)
    return players
