"""The map of a task."""

from collections.abc import Sequence
from dataclasses import dataclass

GOAL = "goal"  # [B, 2], float32: position of the goal, in tasks that have one

Point = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """A task that is played in the plane, x to the right and y upwards.

    Attributes:
        low: the lower left corner.
        high: the upper right corner.
        start: position at the start of an episode.
        goal: position of the goal.
        goal_radius: distance within which the goal is reached.
        cell: width of the cells of a grid; None without a grid.
        walls: lines from point to point.
    """

    low: Point
    high: Point
    start: Point
    goal: Point
    goal_radius: float
    cell: float | None = None
    walls: Sequence[tuple[Point, Point]] = ()
