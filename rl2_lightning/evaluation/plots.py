"""The figure of adaptation curves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.images import Picture

MAX_POINTS = 30  # per line; longer trials are drawn in blocks of episodes

BLACK = "#000000"
# The palettes of Okabe and Ito, and of Paul Tol ("muted"), made for colour-blind readers.
AGENT_COLOURS = ("#0072B2", "#D55E00")
REFERENCE_COLOURS = ("#44AA99", "#CC6677", "#999933", "#AA4499", "#117733", "#882255", "#332288")
REFERENCE_MARKERS = "os^vDPX"
REFERENCE_DASHES = ("-", ":", "-.")  # for the first seven players, the next seven, and so on


@dataclass(frozen=True)
class Style:
    """The style of a player's line; an agent's has a band, a reference player's has not."""

    colour: str
    width: float
    dashes: str
    marker: str
    order: int
    banded: bool


def adaptation_curve_figure(
    curves: Mapping[str, Curve],
    title: str,
    references: Mapping[str, Curve] | None = None,
    reference: str | None = None,
) -> Figure:
    """Draw an agent's curves with 95 % intervals over thinner lines of the reference players.

    Up to 30 episodes are drawn one by one. In a longer trial, single episodes are noisy. It is
    drawn on a logarithmic axis in blocks of episodes: each point is the mean of its block, and the
    band is as wide as the interval of one episode's mean.

    Args:
        curves: the agent's curves, at least one, by their names in the legend.
        title: title of the figure.
        references: the reference players' curves on the same tasks.
        reference: name of the player to draw as the reference.

    Returns:
        A figure outside of pyplot's state, for any backend.
    """
    figure = Picture(figsize=(9.0, 4.8), dpi=110, layout="constrained")
    draw_adaptation_curves(figure.add_subplot(), curves, references or {}, reference)
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    figure.legend(
        loc="outside right center",
        title="mean return of a trial ± 95 %",
        alignment="left",
        frameon=False,
        handlelength=3.2,
        fontsize="small",
        title_fontsize="small",
    )
    return figure


def draw_adaptation_curves(
    axes: Axes, curves: Mapping[str, Curve], references: Mapping[str, Curve], reference: str | None
) -> None:
    """Draw curves like `adaptation_curve_figure` into given axes, without a legend.

    Args:
        axes: axes to draw into.
        curves: the agent's curves, at least one, by their names in the legend.
        references: the reference players' curves on the same tasks.
        reference: name of the player to draw as the reference.
    """
    players = {**references, **curves}
    styles = styles_of(curves, references, reference)
    num_episodes = max(len(curve.mean) for curve in players.values())
    blocks = episode_blocks(num_episodes)
    for rank, name in enumerate(sorted(players, key=lambda name: -players[name].trial_return)):
        # Points of a single episode would overlap: draw them side by side.
        shift = 0.03 * (rank - len(players) / 2) if num_episodes == 1 else 0.0
        label = _label(name, players[name], reference)
        draw_curve(axes, players[name], styles[name], blocks, label, shift)
    dress_axes(axes, num_episodes)
    axes.annotate(
        "agent: 95 % interval of the mean of one episode",
        xy=(1.01, 0.0),  # beside the axes, where neither a line nor a title is
        xycoords="axes fraction",
        rotation="vertical",
        va="bottom",
        fontsize="x-small",
        color="#666666",
    )


def styles_of(
    agents: Iterable[str], references: Iterable[str], reference: str | None
) -> dict[str, Style]:
    """The style of each player's line, no two alike.

    Args:
        agents: the names of the agent's curves.
        references: the names of the reference players.
        reference: name of the player to draw as the reference.
    """
    styles = {}
    others = [name for name in references if name != reference]
    for i, name in enumerate(others):
        colour = REFERENCE_COLOURS[i % len(REFERENCE_COLOURS)]
        marker = REFERENCE_MARKERS[i % len(REFERENCE_MARKERS)]
        dashes = REFERENCE_DASHES[i // len(REFERENCE_COLOURS) % len(REFERENCE_DASHES)]
        styles[name] = Style(colour, 0.9, dashes, marker, order=2, banded=False)
    if reference is not None:
        styles[reference] = Style(BLACK, 1.6, "--", "", order=6, banded=False)
    for i, name in enumerate(agents):
        colour = AGENT_COLOURS[i % len(AGENT_COLOURS)]
        styles[name] = Style(colour, 2.4, "-", "", order=5 - i, banded=True)
    return styles


def _label(name: str, curve: Curve, reference: str | None) -> str:
    words = name.replace("_", " ") + (" (reference)" if name == reference else "")
    return f"{words}: {curve.trial_text()}"


def episode_blocks(num_episodes: int) -> list[slice]:
    """The episodes that each point of a line stands for; of a long trial several."""
    if num_episodes <= MAX_POINTS:
        return [slice(i, i + 1) for i in range(num_episodes)]
    edges = np.unique(np.geomspace(1, num_episodes + 1, MAX_POINTS + 1).round().astype(int)) - 1
    return [slice(low, high) for low, high in pairwise(edges.tolist())]


def draw_curve(
    axes: Axes,
    curve: Curve,
    style: Style,
    blocks: list[slice],
    label: str,
    shift: float = 0.0,
) -> None:
    """Draw a player's line, with a band where the style has one.

    Args:
        axes: axes to draw into.
        curve: the player's curve.
        style: style of the line.
        blocks: the episodes of each point.
        label: name in the legend.
        shift: distance of the points to the right of their episodes.
    """
    mean, half_width = curve.mean.numpy(), curve.half_width.numpy()
    reached = [block for block in blocks if np.isfinite(mean[block]).any()]
    episodes = np.array([np.sqrt((block.start + 1) * block.stop) + shift for block in reached])
    means = np.array([np.nanmean(mean[block]) for block in reached])
    axes.plot(
        episodes,
        means,
        color=style.colour,
        linewidth=style.width,
        linestyle=style.dashes,
        marker=style.marker or ("o" if len(reached) == 1 else ""),
        markersize=4,
        zorder=style.order,
        label=label,
    )
    if not style.banded:
        return
    halves = np.array([np.nan_to_num(half_width[block]).mean() for block in reached])
    if len(reached) == 1:
        axes.errorbar(episodes, means, halves, color=style.colour, capsize=6)
    low, high = means - halves, means + halves
    axes.fill_between(episodes, low, high, color=style.colour, alpha=0.18, linewidth=0, zorder=1)


def dress_axes(axes: Axes, num_episodes: int) -> None:
    """Name and scale the axes of adaptation curves."""
    axes.set_xlabel("episode")
    axes.set_ylabel("mean return of the episode")
    if num_episodes > MAX_POINTS:
        axes.set_xlabel("episode (log scale; the later ones averaged in blocks)")
        axes.set_xscale("log")
        ticks = [step * 10**power for power in range(6) for step in (1, 2, 5)]
        axes.set_xticks([tick for tick in ticks if tick <= num_episodes], minor=False)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        numbers = range(1, num_episodes + 1)
        axes.set_xticks([n for n in numbers if num_episodes <= 10 or n == 1 or n % 5 == 0])
        axes.set_xlim(0.5, num_episodes + 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
