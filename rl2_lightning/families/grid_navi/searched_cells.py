"""How many cells an agent searches before it finds the goal, and how soon it finds it."""

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.functional import one_hot

from rl2_lightning import keys
from rl2_lightning.families.analysis import Analysis, Figures
from rl2_lightning.families.grid_navi.goal_search import MOVES, goal_cells
from rl2_lightning.means import ColumnMeans, Estimate


class SearchMetric(ColumnMeans):
    """Accumulates the searches of trials, over batches and ranks.

    Its figures are, by the end of each episode, `cells_episode_<e>`, the mean number of different
    cells that were searched in vain: that may contain the goal and were visited before it was
    found; and `found_episode_<e>`, the share of the trials that have found it.

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

    def compute(self) -> Figures:
        """The figures of all trials, on all ranks."""
        mean, half_width, _ = self.estimates()
        labels = [
            f"{name}_episode_{episode}"
            for name in ("cells", "found")
            for episode in range(1, self.num_episodes + 1)
        ]
        found = map(Estimate, mean.tolist(), half_width.tolist())
        return Figures(dict(zip(labels, found, strict=True)))


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
    place = trials[keys.OBSERVATION] * (size - 1)
    moves = torch.tensor(MOVES, device=mask.device)
    # Padded steps may hold anything: they are counted nowhere, but an action has to be one.
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
