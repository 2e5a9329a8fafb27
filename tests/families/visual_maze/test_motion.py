"""Motion in visual mazes, and starts and goals."""

import pytest
import torch
from torch import Tensor

from rl2_lightning.families.scene import GOAL
from rl2_lightning.families.visual_maze.motion import (
    FORWARD,
    START,
    TURN_LEFT,
    TURN_RIGHT,
    WALLS,
    Pose,
    move,
    sample_mazes,
    start_pose,
    unit_vectors,
)

VECTORS = unit_vectors(torch.device("cpu"))


def room() -> Tensor:
    """Two by two cells, open from (0, 0) to the east, and from there to the south."""
    walls = torch.ones(1, 2, 3, 2, dtype=torch.uint8)
    walls[0, 0, 1, 0] = 0  # between the cells of row 0
    walls[0, 1, 1, 1] = 0  # between the cells of column 1
    return walls


def go(x: float, y: float, heading: int, *actions: int) -> tuple[list[float], int, list[bool]]:
    pose, hits = Pose(torch.tensor([[x, y]]), torch.tensor([heading])), []
    for action in actions:
        pose, is_hit = move(room(), pose, torch.tensor([action]), VECTORS)
        hits.append(bool(is_hit))
    return pose.position[0].tolist(), int(pose.heading), hits


def test_a_turn_is_a_sixteenth() -> None:
    assert go(0.5, 0.5, 0, TURN_RIGHT)[1] == 1
    assert go(0.5, 0.5, 0, TURN_LEFT)[1] == 15
    position, _, hits = go(0.3, 0.6, 3, *[TURN_RIGHT] * 16)
    assert position == pytest.approx([0.3, 0.6])
    assert not any(hits)


@pytest.mark.parametrize(
    ("heading", "x", "y"), [(0, 0.75, 0.5), (4, 0.5, 0.75), (8, 0.3, 0.5), (12, 0.5, 0.3)]
)
def test_a_step_forward_is_a_quarter_of_a_cell(heading: int, x: float, y: float) -> None:
    # Walls stop the agent 0.3 from the middle of a cell: only a second step would be cut.
    position, _, hits = go(0.5, 0.5, heading, FORWARD)
    expected = {0: (x, y), 4: (0.5, 0.75), 8: (0.25, 0.5), 12: (0.5, 0.25)}[heading]
    assert position == pytest.approx(expected)
    assert hits == [False]


def test_walls_stop_and_doorways_do_not() -> None:
    # To the west there is a wall, which the centre approaches to 0.2.
    position, _, hits = go(0.5, 0.5, 8, FORWARD, FORWARD)
    assert position == pytest.approx([0.2, 0.5])
    assert hits == [False, True]
    # To the east the next cell, and then its wall.
    position, _, hits = go(0.5, 0.5, 0, *[FORWARD] * 6)
    assert position == pytest.approx([1.8, 0.5])
    assert hits == [False] * 5 + [True]


def test_a_slanting_walk_slides_along_a_wall() -> None:
    # To the south-east from (0, 0): the wall in the south stops y and not x.
    position, _, hits = go(0.5, 0.7, 2, FORWARD)
    slanted = 0.25 * 2**-0.5
    assert position == pytest.approx([0.5 + slanted, 0.8])
    assert hits == [True]


def test_corners_are_not_cut() -> None:
    # In the doorway between the cells of row 0 there is no way to the south.
    position, _, hits = go(1.0, 0.5, 4, *[FORWARD] * 4)
    assert position == pytest.approx([1.0, 0.8])
    assert hits[-1]


def test_nobody_comes_near_a_wall() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = sample_mazes(300, 4, generator)
    walls, pose = tasks[WALLS], start_pose(tasks)
    rows = torch.arange(300)
    for _ in range(300):
        action = torch.randint(5, (300,), generator=generator).clamp(max=FORWARD)
        pose, _ = move(walls, pose, action, VECTORS)
        cell = pose.position.long()
        within = pose.position - cell
        for axis in (0, 1):
            line, along = cell[:, axis], cell[:, 1 - axis]
            before = walls[rows, axis, line, along] > 0
            after = walls[rows, axis, line + 1, along] > 0
            assert (within[:, axis][before] > 0.2 - 1e-4).all()
            assert (within[:, axis][after] < 0.8 + 1e-4).all()


def test_starts_and_goals_are_in_different_cells() -> None:
    tasks = sample_mazes(5000, 3, torch.Generator().manual_seed(1))
    start, goal = (tasks[key][:, :2] for key in (START, GOAL))
    assert ((start % 1) == 0.5).all()
    assert ((goal % 1) == 0.5).all()
    assert (start != goal).any(1).all()
    counts = torch.bincount((goal[:, 1].long() * 3 + goal[:, 0].long()), minlength=9)
    assert counts.min() > 0.85 * 5000 / 9
    assert set(tasks[START][:, 2].tolist()) == {0, 4, 8, 12}
