"""The figure of how adaptation emerges over a training: a curve for each validation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure

from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.images import Picture
from rl2_lightning.evaluation.plots import (
    AGENT_COLOURS,
    Style,
    draw_curve,
    dress_axes,
    episode_blocks,
    styles_of,
)

MOST_CURVES = 12  # of validations; more hide one another
COLOURS = "viridis_r"  # from light to dark


@dataclass(frozen=True)
class Validations:
    """The curves of a training's validations.

    Attributes:
        agents: the agent's curve at each number of env steps, by the way it acted; all of the same
            validations.
        references: the curves of the reference players on the same tasks, the reference last.
    """

    agents: Mapping[str, Mapping[int, Curve]]
    references: Mapping[str, Curve]

    def __len__(self) -> int:
        return max(map(len, self.agents.values()), default=0)


def over_training_figure(validations: Validations, title: str) -> Figure:
    """Draw the agent's adaptation curves of several validations, coloured by env steps.

    Up to twelve validations are drawn, more of the early ones, in which most is learnt. Where a
    trial is a single episode, its return is drawn against env steps.

    Args:
        validations: at least two.
        title: title of the figure.

    Returns:
        A figure with a panel for each way of acting.
    """
    figure = Picture(figsize=(11.0, 5.0), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(validations.agents), sharey=True, squeeze=False)[0]
    for axes, (mode, curves) in zip(panels, validations.agents.items(), strict=True):
        is_single = len(next(iter(curves.values())).mean) == 1
        draw = _draw_returns if is_single else _draw_curves
        draw(axes, curves, validations.references)
        axes.set_title(f"agent, {mode}", loc="left", fontsize="medium")
    panels[-1].set_ylabel("")
    if not is_single:
        colours = _colours(next(iter(validations.agents.values())))
        bar = figure.colorbar(colours, ax=panels, label="env steps of training", pad=0.01)
        bar.ax.yaxis.set_major_formatter("{x:,.0f}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize="small"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _draw_curves(axes: Axes, curves: Mapping[int, Curve], references: Mapping[str, Curve]) -> None:
    """Draw a line for each of some validations, over those of the reference players."""
    num_episodes = len(next(iter(curves.values())).mean)
    blocks, colours = episode_blocks(num_episodes), _colours(curves)
    reference = next(reversed(list(references)), None)
    for name, style in styles_of((), references, reference).items():
        draw_curve(axes, references[name], style, blocks, _label(name, reference))
    steps = list(curves)
    shades = colours.to_rgba(np.array(steps))
    for place in _spaced(len(steps)):
        style = Style(to_hex(shades[place].tolist()), 1.8, "-", "", order=5, banded=False)
        draw_curve(axes, curves[steps[place]], style, blocks, "")
    dress_axes(axes, num_episodes)


def _draw_returns(axes: Axes, curves: Mapping[int, Curve], references: Mapping[str, Curve]) -> None:
    """Draw the return of the only episode against env steps, with its 95 % interval."""
    reference = next(reversed(list(references)), None)
    for name, style in styles_of((), references, reference).items():
        axes.axhline(
            references[name].mean.item(),
            color=style.colour,
            linewidth=style.width,
            linestyle=style.dashes,
            label=_label(name, reference),
        )
    means, halves = (
        np.array([getattr(curve, part).item() for curve in curves.values()])
        for part in ("mean", "half_width")
    )
    steps, colour = list(curves), AGENT_COLOURS[0]
    axes.plot(steps, means, color=colour, linewidth=2.0, label="agent, with its 95 % interval")
    axes.fill_between(steps, means - halves, means + halves, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("env steps of training")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("mean return of a trial")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)


def _colours(curves: Mapping[int, Curve]) -> ScalarMappable:
    return ScalarMappable(Normalize(min(curves), max(curves)), COLOURS)


def _spaced(num: int) -> list[int]:
    """Places of some of `num` validations, the first and the last among them."""
    if num <= MOST_CURVES:
        return list(range(num))
    places: list[int] = np.unique(np.geomspace(1, num, MOST_CURVES).round().astype(int)).tolist()
    return [place - 1 for place in places]


def _label(name: str, reference: str | None) -> str:
    return name.replace("_", " ") + (" (reference)" if name == reference else "")
