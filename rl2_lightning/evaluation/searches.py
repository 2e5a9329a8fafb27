"""How an agent finds a goal that ends the episode: how often, how soon, and whether it learns to.

The figures of arXiv 1611.02779, section 3.3, but for the lengths: there they are those of the
episodes that succeed, which flatters an agent that gives up on the long ones. Here all count.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl2_lightning.evaluation.means import ColumnMeans, Estimate


class Searches(NamedTuple):
    """What became of the episodes of a set of trials.

    Attributes:
        success: share of the trials that find the goal in episode 1, 2, …
        length: env steps of episode 1, 2, …; of one that fails, those until it was cut.
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
        num_episodes: E, of each trial; at least 2.
        **kwargs: options of `torchmetrics.Metric`.
    """

    def __init__(self, num_episodes: int, **kwargs: Any) -> None:
        super().__init__(2 * num_episodes + 1, **kwargs)
        self.num_episodes = num_episodes

    def update(self, success: Tensor, length: Tensor) -> None:
        """Adds a batch of trials.

        Args:
            success: whether the goal was found, `[B, E]`, bool.
            length: of the episodes in env steps, `[B, E]`; 0 for those that were not played.
        """
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
