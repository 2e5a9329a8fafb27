"""Report recorded entries of an environment's info, such as success, by episode."""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.families.analysis import Analysis, Figures
from rl2_lightning.means import ColumnMeans, Estimate

KINDS = ("max", "last")


class RecordedMetric(ColumnMeans):
    """Accumulates recorded entries of trials, over batches and ranks.

    Its figures are, by `<entry>_max_episode_<e>`, the mean over trials of the entry's largest value
    in an episode, which for 0 and 1 is the share of trials in which it was 1 at any step; and, by
    `<entry>_last_episode_<e>`, that of its value after the last step.

    Args:
        names: the entries.
        num_episodes: E, number of episodes of each trial.
        **kwargs: options of `torchmetrics.Metric`.
    """

    def __init__(self, names: Sequence[str], num_episodes: int, **kwargs: Any) -> None:
        super().__init__(len(names) * len(KINDS) * num_episodes, **kwargs)
        self._names = names
        self._num_episodes = num_episodes

    def update(self, trials: TensorDictBase) -> None:
        """Add a batch of trials.

        Args:
            trials: `[B, T]`, with the entries, the index of the episode and the mask.
        """
        columns, counted = [], []
        for name in self._names:
            *figures, played = by_episode(trials, keys.of_info(name), self._num_episodes)
            columns += figures
            counted += [played] * len(KINDS)
        self.add(torch.cat(columns, dim=1).double(), torch.cat(counted, dim=1))

    def compute(self) -> Figures:
        """The figures of all trials, on all ranks."""
        mean, half_width, _ = self.estimates()
        labels = [
            f"{name}_{kind}_episode_{episode}"
            for name in self._names
            for kind in KINDS
            for episode in range(1, self._num_episodes + 1)
        ]
        found = map(Estimate, mean.tolist(), half_width.tolist())
        return Figures(dict(zip(labels, found, strict=True)))


class RecordedInfo(Analysis):
    """Reports the largest and the last value of each recorded entry in each episode.

    Args:
        names: the entries.
        num_episodes: E, number of episodes of each trial.
    """

    name = "recorded"
    prefix = "recorded"

    def __init__(self, names: Sequence[str], num_episodes: int) -> None:
        self._names = names
        self._num_episodes = num_episodes

    def make_metric(self, **options: Any) -> RecordedMetric:
        """See `Analysis`."""
        return RecordedMetric(self._names, self._num_episodes, **options)


def by_episode(
    trials: TensorDictBase, entry: tuple[str, ...], num_episodes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest and the last value of an entry in the episodes of played trials.

    Args:
        trials: `[B, T]`, with the entry, the index of the episode and the mask.
        entry: name of the entry, `[B, T, 1]`.
        num_episodes: E, number of episodes of each trial.

    Returns:
        Both values, `[B, E]`, float32, zero where an episode was not played; and whether it was,
        `[B, E]`, bool.
    """
    mask = trials[keys.MASK].squeeze(-1)
    episode = trials[keys.EPISODE].squeeze(-1).masked_fill(~mask, 0)
    value = trials[entry].squeeze(-1).masked_fill(~mask, -torch.inf)
    nothing = value.new_full((len(value), num_episodes), -torch.inf)
    largest = nothing.scatter_reduce(1, episode, value, "amax")
    played = largest > -torch.inf
    steps = torch.arange(mask.shape[1], device=mask.device).expand_as(episode) * mask
    last_step = torch.zeros_like(nothing, dtype=torch.int64)
    last = value.gather(1, last_step.scatter_reduce(1, episode, steps, "amax"))
    return largest.masked_fill(~played, 0.0), last.masked_fill(~played, 0.0), played
