"""The figure of an agent's paths through the episodes of a trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.evaluation.images import Picture
from rl2_lightning.families.scene import Scene

PATH_COLOUR = "#0072B2"
GOAL_COLOUR = "#D55E00"
MARGIN = 0.06  # around the map, as a fraction of its width
PATHS_TITLE = "each path from light to dark, with the episode's return above"
LETTERS_PER_INCH = 12  # in a title
START_COLOUR = "#666666"
KEY = [
    Line2D([], [], marker="s", linestyle="none", color=START_COLOUR, markersize=5, label="start"),
    Line2D([], [], marker="o", linestyle="none", color=GOAL_COLOUR, alpha=0.35, label="goal"),
]


@dataclass(frozen=True)
class Leg:
    """The path of one episode of a trial.

    Attributes:
        points: positions of the agent at first and after each step, `[S + 1, 2]`.
        episode_return: sum of the episode's rewards.
    """

    points: np.ndarray
    episode_return: float


def legs_of(trial: TensorDictBase, scene: Scene) -> list[Leg]:
    """Split a trial into the paths of its episodes.

    Args:
        trial: `[T]`, with reward, episode, mask and the position after each step.
        scene: the map of its task.
    """
    mask = trial[keys.MASK].squeeze(-1)
    played = trial[mask].cpu()
    episodes = played[keys.EPISODE].squeeze(-1)
    legs = []
    for episode in episodes.unique().tolist():
        steps = played[episodes == episode]
        points = np.concatenate([[scene.start], steps[keys.REACHED].numpy()])
        legs.append(Leg(points, steps[keys.REWARD].sum().item()))
    return legs


def paths_figure(trials: Sequence[tuple[Scene, Sequence[Leg]]], title: str) -> Figure:
    """Draw a row for each trial, with a map for each episode.

    Args:
        trials: at least one.
        title: title of the figure.

    Returns:
        A figure outside of pyplot's state, for any backend.
    """
    columns = max(len(legs) for _, legs in trials)
    size = (2.3 * columns, 2.6 * len(trials) + 0.4)
    figure = Picture(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(len(trials), columns, squeeze=False)
    for row, (scene, legs) in zip(panels, trials, strict=True):
        for axes in row[len(legs) :]:
            axes.set_visible(False)
        for index, (axes, leg) in enumerate(zip(row, legs, strict=False), start=1):
            _draw(axes, scene, leg)
            axes.set_title(f"episode {index}: {leg.episode_return:.1f}", fontsize="small")
    figure.legend(handles=KEY, loc="outside lower left", ncols=2, frameon=False, fontsize="small")
    wrapped = fill(title, int(LETTERS_PER_INCH * size[0]))
    figure.suptitle(wrapped, x=0.01, ha="left", fontsize="medium")
    return figure


def draw_map(axes: Axes, scene: Scene) -> None:
    """Draw a scene with a margin around it."""
    axes.add_patch(Circle(scene.goal, scene.goal_radius, color=GOAL_COLOUR, alpha=0.35, zorder=1))
    axes.plot(*scene.start, marker="s", color=START_COLOUR, markersize=5, zorder=2)
    axes.add_collection(LineCollection(scene.walls, colors="#333333", linewidths=1.5, zorder=2))
    width = scene.high[0] - scene.low[0]
    margin = MARGIN * width
    axes.set_xlim(scene.low[0] - margin, scene.high[0] + margin)
    axes.set_ylim(scene.low[1] - margin, scene.high[1] + margin)
    axes.set_aspect("equal")
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)


def _draw(axes: Axes, scene: Scene, leg: Leg) -> None:
    draw_map(axes, scene)
    # Shift later points a little, so that a path that crosses itself stays visible.
    width = scene.high[0] - scene.low[0]
    aside = np.linspace(-0.02, 0.02, len(leg.points))[:, None] * width
    points = leg.points + aside
    x, y = points.T
    axes.plot(x, y, color=PATH_COLOUR, linewidth=1.0, alpha=0.6, zorder=3)
    time = np.arange(len(points))
    axes.scatter(x, y, c=time, cmap="viridis_r", s=14, zorder=4)
    if scene.cell is not None:
        axes.set_xticks(np.arange(scene.low[0], scene.high[0] + scene.cell / 2, scene.cell))
        axes.set_yticks(np.arange(scene.low[1], scene.high[1] + scene.cell / 2, scene.cell))
        axes.grid(linewidth=0.5, alpha=0.5)
