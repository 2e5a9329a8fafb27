"""Curves of several runs from their TensorBoard logs: the mean over seeds, with its interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.images import Picture
from rl2_lightning.evaluation.plots import AGENT_COLOURS, REFERENCE_COLOURS
from rl2_lightning.means import student_quantile

Array = NDArray[np.float64]
NUM_POINTS = 200  # at which runs are compared
ALL = {SCALARS: 0}  # keep every value of a log


@dataclass(frozen=True)
class RunCurve:
    """What a run logged of a metric.

    Attributes:
        env_steps: at which it was logged, `[N]`, rising.
        seconds: after the run's first log of any metric, `[N]`.
        values: `[N]`.
    """

    env_steps: Array
    seconds: Array
    values: Array


@dataclass(frozen=True)
class Band:
    """The mean of several runs, with the 95 % interval of the mean (Student's t).

    Attributes:
        x: env steps or seconds, `[M]`, within what all runs have.
        mean: `[M]`.
        half_width: `[M]`; NaN for a single run.
        num_runs: number of runs.
    """

    x: Array
    mean: Array
    half_width: Array
    num_runs: int


def read_run(folder: Path, metric: str) -> RunCurve:
    """Read a metric from the TensorBoard logs below the folder of a run.

    A run that was resumed has several logs; the later one holds for steps that were repeated.

    Raises:
        UserError: there is no log, or it lacks the metric.
    """
    logs = sorted({path.parent for path in folder.rglob("events.out.tfevents.*")})
    if not logs:
        raise UserError(f"{folder} has no TensorBoard log: give the folder of a run")
    found: dict[int, tuple[float, float]] = {}
    known: set[str] = set()
    started_at = math.inf
    for log in logs:
        events = EventAccumulator(str(log), size_guidance=ALL)
        events.Reload()
        names = events.Tags()[SCALARS]
        known |= set(names)
        started_at = min([started_at, *(events.Scalars(name)[0].wall_time for name in names)])
        if metric in names:
            for event in sorted(events.Scalars(metric), key=lambda event: event.wall_time):
                found[event.step] = (event.wall_time, event.value)
    if not found:
        raise UserError(f"{folder} has no {metric}: it has {', '.join(sorted(known))}")
    env_steps = np.array(sorted(found), dtype=np.float64)
    times, values = np.array([found[int(step)] for step in env_steps]).T
    return RunCurve(env_steps, times - started_at, values)


def band_of(runs: Sequence[RunCurve], axis: str) -> Band:
    """The mean of runs, interpolated to common points.

    Args:
        runs: at least one.
        axis: "env_steps" or "seconds".
    """
    places = [np.asarray(getattr(run, axis)) for run in runs]
    low, high = max(x[0] for x in places), min(x[-1] for x in places)
    x = np.linspace(low, max(low, high), NUM_POINTS)
    values = np.stack([np.interp(x, p, run.values) for p, run in zip(places, runs, strict=True)])
    half_width = np.full_like(x, np.nan)
    if len(runs) > 1:
        error = values.std(axis=0, ddof=1) / len(runs) ** 0.5
        half_width = student_quantile(len(runs) - 1) * error
    return Band(x, values.mean(axis=0), half_width, len(runs))


def runs_figure(groups: Mapping[str, Sequence[RunCurve]], metric: str) -> Figure:
    """Draw the mean of each group of runs against env steps, and against time.

    Args:
        groups: runs that differ only in their seeds, by name.
        metric: name of what they logged.
    """
    figure = Picture(figsize=(11.0, 4.8), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    colours = [*AGENT_COLOURS, *REFERENCE_COLOURS]
    for axes, axis in zip(panels, ("env_steps", "seconds"), strict=True):
        for number, (name, runs) in enumerate(groups.items()):
            band, colour = band_of(runs, axis), colours[number % len(colours)]
            label = f"{name} ({band.num_runs} run{'s'[: band.num_runs != 1]})"
            axes.plot(band.x, band.mean, color=colour, label=label if axis == "seconds" else None)
            low, high = band.mean - band.half_width, band.mean + band.half_width
            axes.fill_between(band.x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(linewidth=0.5, alpha=0.4)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter("{x:,.0f}")
    panels[0].set_xlabel("env steps")
    panels[1].set_xlabel("seconds of training, with validations")
    panels[0].set_ylabel(metric)
    figure.suptitle("mean over seeds ± 95 %", x=0.01, ha="left", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure
