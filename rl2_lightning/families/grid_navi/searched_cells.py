"""How many cells an agent searches before it finds the goal, and how soon it finds it."""

from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot

from rl2_lightning import keys
from rl2_lightning.families.analysis import Analysis
from rl2_lightning.families.grid_navi.goal_search import MOVES, goal_cells
from rl2_lightning.means import ColumnMeans, Estimate


class Search(NamedTuple):
    """The figures of a set of trials, by the end of each episode.

    Attributes:
        cells: number of different cells that were searched in vain: that may contain the goal and
            were visited before it was found.
        found: share of the trials that have found the goal.
    """

    cells: tuple[Estimate, ...]
    found: tuple[Estimate, ...]

    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""
        numbered = {"cells": self.cells, "found": self.found}
        return {
            f"{name}_episode_{episode}": estimate
            for name, estimates in numbered.items()
            for episode, estimate in enumerate(estimates, 1)
        }


class SearchMetric(ColumnMeans):
    """Accumulates trials into their `Search`, over batches and ranks.

    Args:
        size: cells of a side.
        num_episodes: E, number of episodes of each trial.
        **kwargs: options of `torchmetrics.Metric`.
    """

    def __init__(self, size: int, num_episodes: int, **kwargs: Any) -> None:
        super().__init__(2 * num_episodes, **kwargs)
        self.size = size
        self.num_episodes = num_episodes

    def update(self, trials: TensorDictBase) -> None:
        """Add a batch of trials; see `searched_cells`."""
        values = torch.cat(searched_cells(trials, self.size, self.num_episodes), dim=1).double()
        self.add(values, torch.ones_like(values, dtype=torch.bool))

    def compute(self) -> Search:
        """The figures of all trials, on all ranks."""
        mean, half_width, _ = self.estimates()
        columns = tuple(map(Estimate, mean.tolist(), half_width.tolist()))
        return Search(columns[: self.num_episodes], columns[self.num_episodes :])


class SearchedCells(Analysis):
    """Analyses the search for the goal.

    Args:
        size: cells of a side.
        num_episodes: E, number of episodes of each trial.
    """

    name = "searched_cells"
    prefix = "search"

    def __init__(self, size: int, num_episodes: int) -> None:
        self._size = size
        self._num_episodes = num_episodes

    def make_metric(self, **options: Any) -> SearchMetric:
        """See `Analysis`."""
        return SearchMetric(self._size, self._num_episodes, **options)

    def add(self, metric: SearchMetric, trials: TensorDictBase) -> None:
        """See `Analysis`."""
        metric.update(trials)


def searched_cells(trials: TensorDictBase, size: int, num_episodes: int) -> tuple[Tensor, Tensor]:
    """Follow the search for the goal through the episodes of played trials.

    Args:
        trials: `[B, T]`, with observation, action, reward, the index of the episode and the mask.
        size: cells of a side.
        num_episodes: E, number of episodes of each trial.

    Returns:
        The number of cells that were searched in vain by the end of each episode, `[B, E]`, int64;
        and whether the goal was found by then, `[B, E]`, bool.
    """
    mask = trials[keys.MASK].squeeze(-1)
    # Padded steps may hold anything.
    place = trials[keys.OBSERVATION].masked_fill(~mask.unsqueeze(-1), 0) * (size - 1)
    moves = torch.tensor(MOVES, device=mask.device)
    action = trials[keys.ACTION].reshape(mask.shape).masked_fill(~mask, 0)
    row, column = (place.round().long() + moves[action]).clamp(0, size - 1).unbind(-1)
    found = mask & (trials[keys.REWARD].squeeze(-1) > 0)
    searching = mask & (found.cumsum(1) == 0)
    visited = one_hot(row * size + column, size**2).bool() & searching.unsqueeze(-1)
    visited = visited[..., goal_cells(size).to(mask.device)]
    episode = trials[keys.EPISODE].squeeze(-1)
    until = [mask & (episode <= index) for index in range(num_episodes)]
    return (
        torch.stack([(visited & so_far.unsqueeze(-1)).any(1).sum(1) for so_far in until], dim=1),
        torch.stack([(found & so_far).any(1) for so_far in until], dim=1),
    )
