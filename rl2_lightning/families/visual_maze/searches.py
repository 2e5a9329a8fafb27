"""Analyse searches for a goal that ends the episode: success, length and improvement.

These are the figures of arXiv 1611.02779, section 3.3, except for the lengths: there only
successful episodes count, which favours an agent that gives up on long ones. Here all episodes
count.
"""

from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.families.analysis import Analysis
from rl2_lightning.means import ColumnMeans, Estimate


class Searches(NamedTuple):
    """The figures of a set of trials.

    Attributes:
        success: share of the trials that find the goal in episode 1, 2, …
        length: env steps of episode 1, 2, …; of a failed one, the steps until it was cut.
        improved: share of the trials whose second episode is shorter than their first.
    """

    success: tuple[Estimate, ...]
    length: tuple[Estimate, ...]
    improved: Estimate

    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""
        numbered = {"success": self.success, "length": self.length}
        return {
            f"{name}_episode_{episode}": estimate
            for name, estimates in numbered.items()
            for episode, estimate in enumerate(estimates, 1)
        } | {"improved": self.improved}


class SearchMetric(ColumnMeans):
    """Accumulates the episodes of trials into their `Searches`, over batches and ranks.

    Args:
        num_episodes: E, number of episodes of each trial; at least 2.
        **kwargs: options of `torchmetrics.Metric`.
    """

    def __init__(self, num_episodes: int, **kwargs: Any) -> None:
        super().__init__(2 * num_episodes + 1, **kwargs)
        self.num_episodes = num_episodes

    def update(self, trials: TensorDictBase) -> None:
        """Add a batch of trials.

        Args:
            trials: `[B, T]`, with the reward, the index of the episode and the mask.
        """
        success, length = searches_of(trials, self.num_episodes)
        played = length > 0
        improved = played[:, 1:2] & (length[:, 1:2] < length[:, :1])
        self.add(
            torch.cat([success, length, improved], dim=1).double(),
            torch.cat([played, played, played[:, 1:2]], dim=1),
        )

    def compute(self) -> Searches:
        """The figures of all trials, on all ranks."""
        mean, half_width, _ = self.estimates()
        *columns, improved = map(Estimate, mean.tolist(), half_width.tolist())
        success, length = columns[: self.num_episodes], columns[self.num_episodes :]
        return Searches(tuple(success), tuple(length), improved)


class GoalSearches(Analysis):
    """Analyses how often an agent finds the goal, and in how many steps.

    Args:
        num_episodes: E, number of episodes of each trial; at least 2, since the first two are
            compared.
    """

    name = "goal_searches"
    prefix = "search"

    def __init__(self, num_episodes: int) -> None:
        self._num_episodes = num_episodes

    def make_metric(self, **options: Any) -> SearchMetric:
        """See `Analysis`."""
        return SearchMetric(self._num_episodes, **options)


def searches_of(trials: TensorDictBase, num_episodes: int) -> tuple[Tensor, Tensor]:
    """Compute success and length of the episodes of played trials.

    Args:
        trials: `[B, T]`, with the reward, the index of the episode and the mask.
        num_episodes: E, number of episodes of each trial.

    Returns:
        Whether the goal was found, `[B, E]`, bool; and the env steps of each episode, `[B, E]`,
        int64, 0 where it was not played.
    """
    mask = trials[keys.MASK].squeeze(-1)
    episode = trials[keys.EPISODE].squeeze(-1).masked_fill(~mask, 0)
    # Only the goal makes the reward of a step positive.
    found = mask & (trials[keys.REWARD].squeeze(-1) > 0)
    counts = torch.zeros(2, len(mask), num_episodes, dtype=torch.int64, device=mask.device)
    successes, lengths = (
        count.scatter_add(1, episode, counted.long())
        for count, counted in zip(counts, (found, mask), strict=True)
    )
    return successes > 0, lengths
