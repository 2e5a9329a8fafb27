"""Rendered views of a maze, compared to values by hand and to a slow march along single rays."""

import math

import pytest
import torch

from rl2_lightning.families.scene import GOAL
from rl2_lightning.families.visual_maze.first_person import (
    CEILING_COLOUR,
    FLOOR_COLOUR,
    GOAL_COLOUR,
    HEIGHT,
    PILLAR_RADIUS,
    WIDTH,
    FirstPersonView,
)
from rl2_lightning.families.visual_maze.motion import WALLS, Pose, sample_mazes, start_pose

CPU = torch.device("cpu")


def corridor() -> torch.Tensor:
    """A maze of 3 x 3 cells, open along row 1; outer walls of colour 2, inner ones of colour 1."""
    walls = torch.ones(1, 2, 4, 3, dtype=torch.uint8)
    walls[0, 0, [1, 2], 1] = 0
    walls[0, 0, [0, 3]] = 2
    return walls


def pose(x: float, y: float, heading: int) -> Pose:
    return Pose(torch.tensor([[x, y]]), torch.tensor([heading]))


FAR_GOAL = torch.tensor([[50.0, 50.0]])


def march(
    walls: torch.Tensor, goal: torch.Tensor, x: float, y: float, heading: int, column: int
) -> tuple[float, int]:
    """The depth and colour of one ray's hit, in steps of a thousandth of a cell."""
    angle = 2 * math.pi * heading / 16
    aside = (column + 0.5 - WIDTH / 2) / (WIDTH / 2)
    ray = (
        math.cos(angle) - aside * math.sin(angle),
        math.sin(angle) + aside * math.cos(angle),
    )
    for count in range(1, 20_000):
        depth = count / 1000
        a, b = (
            (x + (depth - 0.001) * ray[0], y + (depth - 0.001) * ray[1]),
            (
                x + depth * ray[0],
                y + depth * ray[1],
            ),
        )
        if math.dist(b, goal.tolist()) < PILLAR_RADIUS:
            return depth, 9
        for axis in (0, 1):
            line = max(math.floor(a[axis]), math.floor(b[axis]))
            if math.floor(a[axis]) != math.floor(b[axis]):
                colour = int(walls[axis, line, math.floor(b[1 - axis])])
                if colour:
                    return depth, colour
    raise AssertionError("a ray left the maze")


def test_distances_straight_ahead() -> None:
    view = FirstPersonView(3, CPU)
    depth, colour, _ = view.cast(corridor(), FAR_GOAL, pose(0.5, 1.5, 0))
    middle = slice(WIDTH // 2 - 1, WIDTH // 2 + 1)
    assert depth[0, middle].tolist() == pytest.approx([2.5, 2.5])
    assert colour[0, middle].tolist() == [2, 2]
    # To the south of the corridor, half a cell away, the whole frame is one wall.
    depth, colour, _ = view.cast(corridor(), FAR_GOAL, pose(1.5, 1.5, 4))
    assert depth[0].tolist() == pytest.approx([0.5] * WIDTH)
    assert (colour == 1).all()


def test_the_goal_hides_what_is_behind_it() -> None:
    view = FirstPersonView(3, CPU)
    goal = torch.tensor([[2.5, 1.5]])
    depth, colour, brightness = view.cast(corridor(), goal, pose(0.5, 1.5, 0))
    # The pillar's radius is 0.2: at two cells it covers a tenth of the depth to either side.
    is_goal = colour[0] == 9
    assert is_goal.nonzero().flatten().tolist() == [18, 19, 20, 21]
    assert depth[0, 19].item() == pytest.approx(1.8, abs=0.01)
    assert brightness[0, 19] == 1
    # It is visible neither behind the agent nor behind a wall.
    assert not (view.cast(corridor(), goal, pose(0.5, 1.5, 8))[1] == 9).any()
    assert not (view.cast(corridor(), torch.tensor([[1.5, 2.5]]), pose(1.5, 1.5, 4))[1] == 9).any()


def test_rays_are_those_of_a_slow_march() -> None:
    generator = torch.Generator().manual_seed(5)
    tasks = sample_mazes(25, 4, generator)
    position = start_pose(tasks).position + 0.5 * torch.rand(25, 2, generator=generator) - 0.25
    heading = torch.randint(16, (25,), generator=generator)
    view = FirstPersonView(4, CPU)
    walls, goal = tasks[WALLS], tasks[GOAL]
    depth, colour, _ = view.cast(walls, goal, Pose(position, heading))
    different = 0
    for row in range(25):
        for column in (0, 13, 20, 39):
            x, y = position[row].tolist()
            expected, seen = march(walls[row], goal[row], x, y, int(heading[row]), column)
            # At an edge the marched ray may miss.
            if abs(depth[row, column].item() - expected) > 0.01 or colour[row, column] != seen:
                different += 1
    assert different <= 2


def test_frames_have_a_ceiling_walls_and_a_floor() -> None:
    view = FirstPersonView(3, CPU)
    frames = view.frames(corridor(), torch.tensor([[2.5, 1.5]]), pose(0.5, 1.5, 0))
    assert frames.shape == (1, 3, HEIGHT, WIDTH)
    assert frames.dtype == torch.uint8
    frame = frames[0]
    assert frame[:, 0, 20].tolist() == list(CEILING_COLOUR)
    assert frame[:, -1, 20].tolist() == list(FLOOR_COLOUR)
    assert frame[:, HEIGHT // 2, 20].tolist() == list(GOAL_COLOUR)
    # A wall of 0.6 cells at a distance of 1.8, seen with a focal length of 20 pixels: 6.7 of them.
    is_goal = (frame[:, :, 20] == torch.tensor(GOAL_COLOUR).unsqueeze(1)).all(0)
    assert is_goal.sum().item() == 6
    # Closer walls are higher, and symmetric about the eye.
    near = view.frames(corridor(), FAR_GOAL, pose(2.2, 1.5, 0))[0]
    is_wall = (near[0] != CEILING_COLOUR[0]) & (near[0] != FLOOR_COLOUR[0])
    assert is_wall[:, 20].sum() > 12
    assert torch.equal(is_wall, is_wall.flip(0))


def test_farther_walls_are_darker() -> None:
    view = FirstPersonView(3, CPU)
    _, _, far = view.cast(corridor(), FAR_GOAL, pose(0.5, 1.5, 0))
    _, _, near = view.cast(corridor(), FAR_GOAL, pose(2.0, 1.5, 0))
    assert near[0, 20] > far[0, 20] > 0.5
