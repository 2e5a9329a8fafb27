"""The picture of docs/scaling.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from rl2_lightning.evaluation.images import Picture
from rl2_lightning.evaluation.plots import AGENT_COLOURS

TICKS = (1, 2, 4, 8, 16)

Row = Mapping[str, str]


def draw(scaling: Sequence[Row], learning: Sequence[Row]) -> Figure:
    """Draw the speed-up by number of devices, and the learning curves of one and of two.

    Args:
        scaling: the rows of `scaling.csv`.
        learning: the rows of `scaling_learning.csv`.
    """
    figure = Picture(figsize=(10.0, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_speed_up(left, scaling)
    draw_learning(right, learning)
    return figure


def draw_speed_up(axes: Axes, scaling: Sequence[Row]) -> None:
    """Draw the model's curves, and the median and the range of what was measured."""
    axes.plot(TICKS, TICKS, color="0.6", linestyle=":", label="N times one device")
    for batch, colour in zip(("fixed", "growing"), AGENT_COLOURS, strict=True):
        rows = [row for row in scaling if row["batch"] == batch]
        points = [
            (int(row["devices"]), float(row["value"]))
            for row in rows
            if row["quantity"] == "speed-up, modelled"
        ]
        axes.plot(*zip(*points, strict=True), color=colour, label=f"{batch} batch, model")
        (found,) = (row for row in rows if row["quantity"] == "speed-up, measured")
        low, middle, high = (float(found[name]) for name in ("lowest", "value", "highest"))
        axes.errorbar(
            [int(found["devices"])],
            [middle],
            [[middle - low], [high - middle]],
            fmt="o",
            capsize=4,
            color=colour,
            label=f"{batch} batch, measured",
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(TICKS)
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    axes.set(xlabel="devices", ylabel="env steps per second, relative to one device")
    axes.legend(frameon=False, fontsize="small")


def draw_learning(axes: Axes, learning: Sequence[Row]) -> None:
    """Draw the mean over the seeds, and each seed as a thin line."""
    for num, colour in zip((1, 2), AGENT_COLOURS, strict=True):
        curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in learning:
            if row["devices"] == str(num):
                point = (float(row["env_steps"]), float(row["return_greedy"]))
                curves[row["seed"]].append(point)
        for points in curves.values():
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.7, alpha=0.5)
        means = [
            tuple(map(mean, zip(*same, strict=True))) for same in zip(*curves.values(), strict=True)
        ]
        label = f"{num} device{'s'[: num > 1]}, mean of {len(curves)} seeds"
        axes.plot(*zip(*means, strict=True), color=colour, label=label)
    axes.set(xlabel="env steps, over all devices", ylabel="mean return of a trial, greedy")
    axes.xaxis.set_major_formatter(lambda steps, _: f"{steps / 1e6:g} M")
    axes.legend(frameon=False, fontsize="small", loc="lower right")
