"""The picture of docs/scaling.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from benchmarks.scaling.model import Terms
from rl2_lightning.evaluation.images import Picture
from rl2_lightning.evaluation.plots import AGENT_COLOURS

MOST_DEVICES = 16
TICKS = (1, 2, 4, 8, 16)


def draw(
    terms: Terms,
    measured: Mapping[str, Sequence[float]],
    learning: Sequence[Mapping[str, object]],
) -> Figure:
    """Draw the speed-up by number of devices, and the learning curves of one and of two.

    Args:
        terms: the terms of the model.
        measured: speed-ups of two devices by `fixed` and `growing`, for each round.
        learning: rows with `devices`, `seed`, `env_steps` and `return_greedy`.
    """
    figure = Picture(figsize=(10.0, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_speed_up(left, terms, measured)
    draw_learning(right, learning)
    return figure


def draw_speed_up(axes: Axes, terms: Terms, measured: Mapping[str, Sequence[float]]) -> None:
    """Draw the model's curves, and the median and the range of what was measured."""
    numbers = np.geomspace(1, MOST_DEVICES, 60)
    axes.plot(TICKS, TICKS, color="0.6", linestyle=":", label="N times one device")
    for (batch, found), colour in zip(measured.items(), AGENT_COLOURS, strict=True):
        curve = [terms.speed_up(number, growing=batch == "growing") for number in numbers]
        axes.plot(numbers, curve, color=colour, label=f"{batch} batch, model")
        middle = median(found)
        ends = [[middle - min(found)], [max(found) - middle]]
        axes.errorbar(
            [2], [middle], ends, fmt="o", capsize=4, color=colour, label=f"{batch} batch, measured"
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(TICKS)
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    axes.set(xlabel="devices", ylabel="env steps per second, relative to one device")
    axes.legend(frameon=False, fontsize="small")


def draw_learning(axes: Axes, learning: Sequence[Mapping[str, object]]) -> None:
    """Draw the mean over the seeds, and each seed as a thin line."""
    for num, colour in zip((1, 2), AGENT_COLOURS, strict=True):
        curves: dict[object, list[tuple[float, float]]] = defaultdict(list)
        for row in learning:
            if row["devices"] == num:
                point = (float(str(row["env_steps"])), float(str(row["return_greedy"])))
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
