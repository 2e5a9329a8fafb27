"""The picture of how costs grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from rl2_lightning.evaluation.images import Picture
from rl2_lightning.evaluation.plots import AGENT_COLOURS

Row = Mapping[str, str]
# Title of a column of the picture: label of its horizontal axis, and its curves.
PANELS = {
    "trials": ("trials of an iteration", ("trials",)),
    "trial length": ("env steps of a trial", ("steps", "steps in windows")),
    "hidden size": ("units of the GRU", ("hidden size",)),
    "arms": ("arms", ("arms",)),
}
PARTS = {"collect_us": "collecting", "optimise_us": "optimising"}


def draw(rows: Sequence[Row]) -> Figure:
    """Draw the time of an env step and the peak memory along each curve.

    Args:
        rows: the rows of `costs.csv`.
    """
    measured = {row["curve"] for row in rows}
    panels = {title: panel for title, panel in PANELS.items() if measured & set(panel[1])}
    figure = Picture(figsize=(3.3 * len(panels), 6.0), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(panels), sharex="col", squeeze=False)
    for (title, (label, curves)), (upper, lower) in zip(panels.items(), grid.T, strict=True):
        upper.set_title(title, fontsize="medium")
        for curve, style in zip(curves, ("-", "--"), strict=False):
            points = [row for row in rows if row["curve"] == curve]
            if points:
                _draw_curve(upper, lower, curve, points, style)
        upper.set_ylim(bottom=0)
        lower.set_yscale("log")
        lower.set_xscale("log")
        numbers = {int(row["number"]) for row in rows if row["curve"] in curves}
        lower.xaxis.set_ticks(sorted(numbers))
        for axis in (lower.xaxis, lower.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_locator(NullLocator())
        lower.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        lower.tick_params(axis="x", labelsize="small")
        lower.set_xlabel(label)
        if len(curves) > 1:
            lower.legend(frameon=False, fontsize="small")
    grid[0, 0].set_ylabel("microseconds per env step")
    grid[0, 0].legend(frameon=False, fontsize="small")
    grid[1, 0].set_ylabel("peak memory, MB")
    return figure


def _draw_curve(upper: Axes, lower: Axes, curve: str, points: Sequence[Row], style: str) -> None:
    numbers = [int(row["number"]) for row in points]
    for (part, label), colour in zip(PARTS.items(), AGENT_COLOURS, strict=False):
        times = [float(row[part]) for row in points]
        upper.plot(numbers, times, style, marker="o", markersize=3, color=colour, label=label)
    megabytes = [float(row["megabytes"]) for row in points]
    label = "in windows" if curve.endswith("in windows") else "whole trials"
    lower.plot(numbers, megabytes, style, marker="o", markersize=3, color="0.3", label=label)
