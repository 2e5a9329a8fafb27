"""Which kind of learner plays the two-step task: how often it repeats its first action, and when.

A model-free learner repeats what was rewarded. A model-based one repeats what led to a reward by
the common transition, and changes what led to it by the rare one: an interaction of reward and
transition (Daw et al. 2011; arXiv 1611.05763, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchmetrics import Metric

from rl2_lightning.families.analysis import Analysis
from rl2_lightning.families.two_step.choice_regression import (
    INTERACTION,
    NUM_GROUPS,
    NUM_PREDICTORS,
    REWARD_EFFECT,
    TwoStepChoices,
    adjusted_effects,
    choices_of,
    conditions_of,
    regression_sums,
)
from rl2_lightning.means import NORMAL_QUANTILE, Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What the episode before was like, in the order of all that follows.
CONDITIONS = ("rewarded_common", "rewarded_rare", "unrewarded_common", "unrewarded_rare")


class StayProbabilities(NamedTuple):
    """How often a player repeats its first action, and what the episode before does to it.

    Attributes:
        probabilities: by the episode before, in the order of `CONDITIONS`.
        reward_effect: by how much more after a reward than after none, the mean of both
            transitions.
        interaction: the effect of a reward after a common transition less that after a rare one.
        adjusted_reward_effect: the same with the episodes before held fixed, by regression: what
            a model-free learner shows.
        adjusted_interaction: likewise: what a model-based learner shows.
        num_trials: how many trials were played.
    """

    probabilities: tuple[Estimate, ...]
    reward_effect: Estimate
    interaction: Estimate
    adjusted_reward_effect: Estimate
    adjusted_interaction: Estimate
    num_trials: int

    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""
        stay = zip(CONDITIONS, self.probabilities, strict=True)
        return {
            **{f"stay_{condition}": estimate for condition, estimate in stay},
            "reward_effect": self.reward_effect,
            "interaction": self.interaction,
            "adjusted_reward_effect": self.adjusted_reward_effect,
            "adjusted_interaction": self.adjusted_interaction,
        }


class StayProbabilityMetric(Metric):
    """Accumulates the choices of trials into their `StayProbabilities`, over batches and ranks.

    A probability is a ratio of two counts over all trials: episodes that repeat the action of the
    one before, and episodes, under each condition. Episodes of a trial are not independent, so
    the standard errors are those of such ratios over trials, by the delta method. All states are
    sums.

    Args:
        **kwargs: options of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    totals: Tensor
    products: Tensor
    gram: Tensor
    moment: Tensor
    num_trials: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Repeats under each condition, and then episodes under each.
        size = 2 * len(CONDITIONS)
        shapes = {
            "totals": (size,),
            "products": (size, size),
            "gram": (NUM_GROUPS, NUM_PREDICTORS, NUM_PREDICTORS),
            "moment": (NUM_GROUPS, NUM_PREDICTORS),
        }
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_trials", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, choices: TwoStepChoices) -> None:
        """Adds a batch of trials, `[B, E]`."""
        counts = count_repeats(choices)
        self.totals += counts.sum(0)
        self.products += counts.T @ counts
        gram, moment = regression_sums(choices)
        group = (self.num_trials + torch.arange(len(counts), device=counts.device)) % NUM_GROUPS
        self.gram.index_add_(0, group, gram)
        self.moment.index_add_(0, group, moment)
        self.num_trials += len(counts)

    def compute(self) -> StayProbabilities:
        """The probabilities of all trials, on all ranks."""
        totals, num_trials = self.totals.cpu(), int(self.num_trials)
        mean = totals / num_trials
        spread = (self.products.cpu() - torch.outer(totals, mean)) / (num_trials - 1)
        repeats, episodes = mean.chunk(2)
        probabilities = repeats / episodes
        gradient = torch.cat(((1 / episodes).diag(), (-probabilities / episodes).diag()), 1)
        covariance = gradient @ spread @ gradient.T / num_trials
        effects = totals.new_tensor([REWARD_EFFECT, INTERACTION])
        values = torch.cat((probabilities, effects @ probabilities))
        variances = torch.cat((covariance.diag(), (effects @ covariance * effects).sum(1)))
        half_widths = NORMAL_QUANTILE * variances.clamp_min(0).sqrt()
        *stay, reward_effect, interaction = map(Estimate, values.tolist(), half_widths.tolist())
        adjusted = adjusted_effects(self.gram.cpu(), self.moment.cpu())
        return StayProbabilities(tuple(stay), reward_effect, interaction, *adjusted, num_trials)


def count_repeats(choices: TwoStepChoices) -> Tensor:
    """Counts for each trial the episodes that repeat the action of the one before.

    Args:
        choices: of B trials of E episodes.

    Returns:
        Repeats under each condition, and then episodes under each, `[B, 8]`, float64.
    """
    repeats = choices.first_action[:, 1:] == choices.first_action[:, :-1]
    conditions = conditions_of(choices)[:, :-1]
    return torch.cat((conditions & repeats.unsqueeze(-1), conditions), -1).sum(1).double()


class StayProbabilityAnalysis(Analysis):
    """How often a player repeats its first action, beside two reference players."""

    name = "stay_probabilities"
    prefix = "stay"
    main_figures = (
        "reward_effect",
        "interaction",
        "adjusted_reward_effect",
        "adjusted_interaction",
    )
    references = ("model_free", "model_based")

    def make_metric(self, **options: Any) -> StayProbabilityMetric:
        """See `Analysis`."""
        return StayProbabilityMetric(**options)

    def add(self, metric: StayProbabilityMetric, trials: TensorDictBase) -> None:
        """See `Analysis`."""
        metric.update(choices_of(trials))

    def figure(self, findings: Mapping[str, StayProbabilities], title: str) -> Figure:
        """Draws how often an action is repeated, after what."""
        # Late, because a training needs no pictures.
        from rl2_lightning.families.two_step.stay_plots import stay_probability_figure

        return stay_probability_figure(findings, title)
