"""Analyse which kind of learner plays the two-step task, by when it repeats its first action.

A model-free learner repeats rewarded actions. A model-based one repeats an action that led to a
reward by the common transition, and changes one that led to it by the rare transition: an
interaction of reward and transition (Daw et al. 2011; arXiv 1611.05763, section 3.2).
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

# The conditions of the previous episode, in the order of all tensors below.
CONDITIONS = ("rewarded_common", "rewarded_rare", "unrewarded_common", "unrewarded_rare")


class StayProbabilities(NamedTuple):
    """How often a player repeats its first action, depending on the previous episode.

    Attributes:
        probabilities: by the condition of the previous episode, in the order of `CONDITIONS`.
        reward_effect: difference of the probabilities with and without a reward, averaged over both
            transitions.
        interaction: reward effect after a common transition minus that after a rare one.
        adjusted_reward_effect: reward effect adjusted for earlier episodes by regression; the mark
            of a model-free learner.
        adjusted_interaction: interaction adjusted in the same way; the mark of a model-based
            learner.
        num_trials: number of trials played.
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
    previous one, and all episodes, under each condition. Episodes of a trial are not independent,
    so the standard errors are those of such ratios over trials, by the delta method. All states are
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
        # Repeats under each condition, and then episodes under each condition.
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
        """Add a batch of trials, `[B, E]`."""
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
    """Count the episodes of each trial that repeat the action of the previous one.

    Args:
        choices: choices of B trials of E episodes.

    Returns:
        Repeats under each condition, and then episodes under each condition, `[B, 8]`, float64.
    """
    repeats = choices.first_action[:, 1:] == choices.first_action[:, :-1]
    conditions = conditions_of(choices)[:, :-1]
    return torch.cat((conditions & repeats.unsqueeze(-1), conditions), -1).sum(1).double()


class StayProbabilityAnalysis(Analysis):
    """Analyses how often a player repeats its first action, with two reference players."""

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
        """Draw how often an action is repeated under each condition."""
        # Imported here, because training needs no pictures.
        from rl2_lightning.families.two_step.stay_plots import stay_probability_figure

        return stay_probability_figure(findings, title)
