"""The number of steps for each goal of a trial: fewer for later ones, if a player learns.

This is the measure of arXiv 2006.03662, section 4. A goal that is not reached counts with the steps
that were left of the trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.families.analysis import Analysis
from rl2_lightning.means import ColumnMeans, Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_GOALS = 20


class GoalSteps(NamedTuple):
    """The steps for the goals of a set of trials.

    Attributes:
        steps: env steps for goal 1, 2, …, including the one that collects it.
        reached: share of the trials that collect goal 1, 2, …
    """

    steps: tuple[Estimate, ...]
    reached: tuple[Estimate, ...]

    def estimates(self) -> dict[str, Estimate]:
        """All figures by name."""
        numbered = {"steps": self.steps, "reached": self.reached}
        return {
            f"{name}_{goal}": estimate
            for name, estimates in numbered.items()
            for goal, estimate in enumerate(estimates, 1)
        }


class GoalStepsMetric(ColumnMeans):
    """Accumulates trials into their `GoalSteps`, over batches and ranks.

    Args:
        **kwargs: options of `torchmetrics.Metric`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(2 * NUM_GOALS, **kwargs)

    def update(self, trials: TensorDictBase) -> None:
        """Add a batch of trials, `[B, T]`, with the reward and the mask."""
        steps, reached = steps_per_goal(trials)
        values = torch.cat([steps, reached], dim=1).double()
        self.add(values, torch.cat([steps > 0, torch.ones_like(reached)], dim=1))

    def compute(self) -> GoalSteps:
        """The figures of all trials, on all ranks."""
        mean, half_width, _ = self.estimates()
        columns = tuple(map(Estimate, mean.tolist(), half_width.tolist()))
        return GoalSteps(columns[:NUM_GOALS], columns[NUM_GOALS:])


class StepsPerGoal(Analysis):
    """Analyses the steps for the first goals of a trial, with two reference players."""

    name = "steps_per_goal"
    prefix = "goals"
    main_figures = tuple(f"steps_{goal}" for goal in (1, 2, 5, 10, NUM_GOALS))
    references = ("knows_the_map", "learns_the_map")

    def make_metric(self, **options: Any) -> GoalStepsMetric:
        """See `Analysis`."""
        return GoalStepsMetric(**options)

    def figure(self, findings: Mapping[str, GoalSteps], title: str) -> Figure:
        """Draw the steps of each goal, with 95 % intervals."""
        # Imported here, because training needs no pictures.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 4.2), dpi=110, layout="constrained")
        axes = figure.subplots()
        goals = range(1, NUM_GOALS + 1)
        for name, found in findings.items():
            axes.errorbar(
                goals,
                [estimate.value for estimate in found.steps],
                [estimate.half_width for estimate in found.steps],
                linestyle="-" if name.startswith("agent") else "--",
                capsize=2,
                label=name,
            )
        axes.set_xlabel("goal")
        axes.set_ylabel("env steps to collect it")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
        figure.legend(loc="outside right center", frameon=False)
        return figure


def steps_per_goal(trials: TensorDictBase) -> tuple[Tensor, Tensor]:
    """Compute the steps for the first goals from played trials.

    Args:
        trials: `[B, T]`, with the reward and the mask, `[B, T, 1]`.

    Returns:
        The env steps for each goal, `[B, NUM_GOALS]`, int64, 0 if the trial did not get to it; and
        whether it was collected, `[B, NUM_GOALS]`, bool.
    """
    mask = trials[keys.MASK].squeeze(-1)
    collected = mask & (trials[keys.REWARD].squeeze(-1) > 0)
    goal = (collected.cumsum(1) - collected.long()).clamp(max=NUM_GOALS)
    nothing = torch.zeros(len(mask), NUM_GOALS + 1, dtype=torch.int64, device=mask.device)
    steps, reached = (
        nothing.scatter_add(1, goal, counted.long())[:, :NUM_GOALS] for counted in (mask, collected)
    )
    return steps, reached > 0
