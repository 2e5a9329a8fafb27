"""The benchmark's score: success at any step of the last 3 episodes of a trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.families.analysis import Analysis, Figures
from rl2_lightning.families.gymnasium.recorded import by_episode
from rl2_lightning.means import ColumnMeans, Estimate

NUM_SCORED = 3
SUCCESS, KIND = (keys.of_info(name) for name in ("success", "kind"))


class ScoreMetric(ColumnMeans):
    """Accumulates trials into their score, over batches and ranks.

    Its figures are `success`, the share of the scored episodes with a success at any step;
    `success_<kind>`, that of each kind of task; and `success_episode_<e>`, that of each episode of
    all trials.

    Args:
        kinds: the names of the kinds of tasks, by their index.
        num_episodes: E, number of episodes of each trial.
        **kwargs: options of `torchmetrics.Metric`.
    """

    def __init__(self, kinds: Sequence[str], num_episodes: int, **kwargs: Any) -> None:
        super().__init__(1 + len(kinds) + num_episodes, **kwargs)
        self._kinds = kinds
        self._num_episodes = num_episodes

    def update(self, trials: TensorDictBase) -> None:
        """Add a batch of trials.

        Args:
            trials: `[B, T]`, with `success` and `kind`, the index of the episode and the mask.
        """
        succeeded, _, played = by_episode(trials, SUCCESS, self._num_episodes)
        kind = trials[KIND][:, 0].long()
        scored = succeeded[:, -NUM_SCORED:].mean(1, keepdim=True)
        of_kind = torch.arange(len(self._kinds), device=kind.device) == kind
        values = torch.cat([scored, scored * of_kind, succeeded], dim=1)
        counted = torch.cat([torch.ones_like(of_kind[:, :1]), of_kind, played], dim=1)
        self.add(values.double(), counted)

    def compute(self) -> Figures:
        """The score of all trials, on all ranks."""
        mean, half_width, count = self.estimates()
        episodes = [f"episode_{episode}" for episode in range(1, self._num_episodes + 1)]
        names = ["success", *(f"success_{name}" for name in (*self._kinds, *episodes))]
        found = zip(names, map(Estimate, mean.tolist(), half_width.tolist()), count, strict=True)
        return Figures({name: estimate for name, estimate, trials in found if trials > 0})


class BenchmarkScore(Analysis):
    """Reports the score: all but the last 3 episodes are for adaptation.

    Args:
        kinds: the names of the kinds of tasks, by their index.
        num_episodes: E, number of episodes of each trial; 13 in the benchmark.
    """

    name = "meta_world"
    prefix = "meta_world"
    main_figures = ("success",)

    def __init__(self, kinds: Sequence[str], num_episodes: int) -> None:
        self._kinds = kinds
        self._num_episodes = num_episodes

    def make_metric(self, **options: Any) -> ScoreMetric:
        """See `Analysis`."""
        return ScoreMetric(self._kinds, self._num_episodes, **options)
