"""What a map of a task shows."""

from collections.abc import Sequence
from dataclasses import dataclass

GOAL = "goal"  # [B, 2], float32: where it is; of tasks that have one

Point = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """A task that is played in the plane, x to the right and y upwards.

    Attributes:
        low: the corner to the left, below.
        high: the corner to the right, above.
        start: where an episode begins.
        goal: where the goal is.
        goal_radius: how near to it counts as there.
        cell: width of the cells of a grid; None where there is none.
        walls: lines from point to point.
    """

    low: Point
    high: Point
    start: Point
    goal: Point
    goal_radius: float
    cell: float | None = None
    walls: Sequence[tuple[Point, Point]] = ()
