"""Figures of what an agent does in trials."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.images import Picture
from rl2_lightning.evaluation.plots import (
    AGENT_COLOURS,
    BLACK,
    REFERENCE_COLOURS,
    Style,
    styles_of,
)

RANDOM = "random"  # a player that nobody can be behind
MOST_PATHS, MOST_POINTS = 60, 1200  # drawn in all paths; more hide one another
MOST_COLOURS = 10  # of a number that is a kind
LARGEST_LINEAR = 20.0  # nats; narrow distributions over continuous actions differ by hundreds
DPI = 110


def regret_figure(
    curves: Mapping[str, Curve], references: Mapping[str, Curve], reference: str, title: str
) -> Figure:
    """Draw how much less than the reference player each player has earned so far in a trial.

    Args:
        curves: the agent's curves by their names in the legend.
        references: the reference players' curves on the same tasks.
        reference: name of the player that the others are compared with.
        title: title of the figure.
    """
    figure, axes = _figure(title, width=8.5)
    best = references[reference].mean.numpy()
    players = {**references, **curves}
    for name, style in styles_of(curves, references, reference).items():
        if name != reference:
            _draw_regret(axes, players[name], best, name, style)
    axes.axhline(0, color=BLACK, linewidth=1.2, linestyle="--", label=reference.replace("_", " "))
    axes.set_xlabel("episode")
    axes.set_ylabel(f"return behind {reference.replace('_', ' ')}, summed up")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(best) == 1:
        axes.set_xlim(0.5, 1.5)
        axes.set_xticks([1])
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    return figure


def _draw_regret(axes: Axes, curve: Curve, best: np.ndarray, name: str, style: Style) -> None:
    regret = np.nancumsum(best - curve.mean.numpy())
    label = f"{name.replace('_', ' ')}: {regret[-1]:.3g} in all"
    episodes = np.arange(1, len(regret) + 1)
    marker = "o" if len(regret) == 1 else ""
    axes.plot(
        episodes,
        regret,
        color=style.colour,
        linewidth=style.width,
        linestyle=style.dashes,
        marker=marker,
        label=label,
    )


def actions_figure(shares: Tensor, are_ranked: bool, title: str) -> Figure:
    """Draw which action is taken when, as a heat map.

    Args:
        shares: shares of the trials, `[K, T]`; NaN where too few are played.
        are_ranked: whether actions are sorted by what they pay.
        title: title of the figure.
    """
    num_actions, num_steps = shares.shape
    figure, axes = _figure(title, height=min(2.2 + 0.3 * num_actions, 8.0))
    image = axes.imshow(
        shares.numpy(),
        aspect="auto",
        origin="upper",
        cmap="viridis",
        vmin=0,
        interpolation="nearest",
        extent=(0.5, num_steps + 0.5, num_actions + 0.5, 0.5),
    )
    is_told = ~shares.isnan().any(0)
    axes.set_xlim(0.5, int(is_told.nonzero().max()) + 1.5)
    axes.set_xlabel("env step of the trial")
    axes.set_ylabel("action, 1 is the one that pays most" if are_ranked else "action, from 1 on")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="share of the trials")
    return figure


def memory_figure(
    paths: Tensor, shares: Tensor, numbers: Tensor, meaning: str, title: str
) -> Figure:
    """Draw the memory's path through each trial in two dimensions, coloured by task.

    Args:
        paths: `[B, T, 2]`, NaN where a step does not count.
        shares: share of the variance that each dimension explains, `[2]`.
        numbers: a number for each task, `[B]`.
        meaning: what the number is.
        title: title of the figure.
    """
    figure, axes = _figure(title, width=7.5, height=6.0)
    kinds = np.unique(numbers.numpy())
    are_kinds = len(kinds) <= MOST_COLOURS and np.array_equal(kinds, kinds.round())
    places = np.searchsorted(kinds, numbers.numpy()) if are_kinds else numbers.numpy()
    ends_at = (0, MOST_COLOURS - 1) if are_kinds else (places.min(), places.max())
    colours = ScalarMappable(Normalize(*ends_at), "tab10" if are_kinds else "viridis")
    shades = colours.to_rgba(places)
    num_drawn = min(MOST_PATHS, max(1, MOST_POINTS // paths.shape[1]))
    for path, shade in list(zip(paths.numpy(), shades, strict=True))[:num_drawn]:
        axes.plot(path[:, 0], path[:, 1], color=shade, linewidth=0.8, alpha=0.45, zorder=2)
    ends = np.stack([path[~np.isnan(path[:, 0])][-1] for path in paths.numpy()])
    axes.scatter(ends[:, 0], ends[:, 1], color=shades, s=30, zorder=3)
    x, y = paths[:, 0].nanmean(dim=0).tolist()
    axes.scatter([x], [y], marker="s", color=BLACK, s=36, zorder=4, label="first step")
    axes.scatter([], [], color="#666666", s=30, label="last step of a trial")
    first, second = (f"({share:.0%} of the variance)" for share in shares.tolist())
    axes.set_xlabel(f"principal component 1 of the memory's output {first}")
    axes.set_ylabel(f"principal component 2 of the memory's output {second}")
    if are_kinds:
        for place, kind in enumerate(kinds):
            shade = colours.to_rgba(np.array([place]))
            axes.scatter([], [], color=shade, s=30, label=f"{meaning} {kind:.0f}")
    else:
        figure.colorbar(colours, ax=axes, label=meaning)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    return figure


def reactions_figure(reactions: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw what the policy reacts to, over the steps of a trial.

    Args:
        reactions: for each input the divergence at each step, in nats, `[T]`.
        title: title of the figure.
    """
    figure, axes = _figure(title, width=8.5)
    ranked = sorted(reactions.items(), key=lambda item: -np.nanmean(item[1]))
    for number, (name, divergence) in enumerate(ranked):
        colour = [*AGENT_COLOURS, *REFERENCE_COLOURS][number]
        label = f"{name.replace('_', ' ')}: {np.nanmean(divergence):.2g} on average"
        steps = np.arange(1, len(divergence) + 1)
        marker = "o" if len(steps) <= 30 else ""
        axes.plot(steps, divergence, color=colour, marker=marker, markersize=3, label=label)
    axes.set_xlabel("env step of the trial")
    axes.set_ylabel("KL divergence of the policy in nats")
    largest = max(np.nanmax(divergence) for divergence in reactions.values())
    if largest > LARGEST_LINEAR:
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylabel("KL divergence of the policy in nats (log scale above 1)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        loc="outside right center", title="input of another trial", frameon=False, fontsize="small"
    )
    return figure


def _figure(title: str, width: float = 8.0, height: float = 4.6) -> tuple[Figure, Axes]:
    figure = Picture(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(linewidth=0.5, alpha=0.4)
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure, axes
