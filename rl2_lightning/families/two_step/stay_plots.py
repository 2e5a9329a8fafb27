"""The figure of stay probabilities in the two-step task."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl2_lightning.families.two_step.stay_probabilities import StayProbabilities

COLOURS = {"common": "#0072B2", "rare": "#D55E00"}
BAR_WIDTH = 0.38


def stay_probability_figure(players: Mapping[str, StayProbabilities], title: str) -> Figure:
    """Draw how often each player repeats its first action, with 95 % intervals.

    The title of each panel shows the effects adjusted for earlier episodes.

    Args:
        players: at least one, by its name in the panel's title.
        title: title of the figure.

    Returns:
        A figure outside of pyplot's state, for any backend.
    """
    figure = Figure(figsize=(2.5 * len(players) + 1.2, 3.8), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(players), sharey=True, squeeze=False)[0]
    for axes, (name, probabilities) in zip(panels, players.items(), strict=True):
        _draw(axes, name.replace("_", " "), probabilities)
    panels[0].set_ylabel("probability of the same first action")
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", title="transition before", frameon=False
    )
    return figure


def _draw(axes: Axes, name: str, probabilities: StayProbabilities) -> None:
    estimates = probabilities.estimates()
    for side, (transition, colour) in enumerate(COLOURS.items()):
        cells = [estimates[f"stay_{reward}_{transition}"] for reward in ("rewarded", "unrewarded")]
        axes.bar(
            np.arange(2) + (side - 0.5) * BAR_WIDTH,
            [cell.value for cell in cells],
            BAR_WIDTH,
            yerr=[cell.half_width for cell in cells],
            capsize=3,
            color=colour,
            label=transition,
        )
    axes.set_xticks([0, 1], ["rewarded", "unrewarded"])
    axes.set_ylim(0, 1)
    axes.set_title(
        f"{name}\nadjusted reward: {probabilities.adjusted_reward_effect.text()}\n"
        f"adjusted interaction: {probabilities.adjusted_interaction.text()}",
        fontsize="small",
    )
    axes.spines[["top", "right"]].set_visible(False)
