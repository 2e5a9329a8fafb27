"""Perfect mazes: their structure, their distribution, and paths through them."""

from collections import deque
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rl2_lightning.families.visual_maze.layout import (
    EAST,
    NORTH,
    OFFSETS,
    SOUTH,
    WEST,
    distances,
    passages,
    sample_walls,
    wall_lines,
    ways_to,
)


def draw(num_mazes: int, size: int, seed: int = 0) -> Tensor:
    return sample_walls(num_mazes, size, 8, torch.Generator().manual_seed(seed))


def by_walking(walls: Tensor, goal: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Distances to a cell of one maze, by breadth-first search over its sides."""
    size = walls.shape[-1]
    found, queue = {goal: 0}, deque([goal])
    while queue:
        row, column = queue.popleft()
        sides = {
            (row, column + 1): walls[0, column + 1, row],
            (row, column - 1): walls[0, column, row],
            (row + 1, column): walls[1, row + 1, column],
            (row - 1, column): walls[1, row, column],
        }
        for cell, side in sides.items():
            inside = 0 <= cell[0] < size and 0 <= cell[1] < size
            if inside and side == 0 and cell not in found:
                found[cell] = found[row, column] + 1
                queue.append(cell)
    return found


@pytest.mark.parametrize("size", [2, 5, 9])
def test_mazes_are_perfect(size: int) -> None:
    walls = draw(200, size)
    assert walls.dtype == torch.uint8
    assert walls.max() <= 8
    inner = walls[:, :, 1:size] == 0
    # As many open sides as a tree, and all cells reachable: so there is no loop.
    assert (inner.flatten(1).sum(1) == size**2 - 1).all()
    assert (walls[:, :, [0, size]] > 0).all(), "the outer wall is closed"
    for maze in walls[:20]:
        assert len(by_walking(maze, (0, 0))) == size**2


def test_mazes_differ_and_a_seed_fixes_them() -> None:
    walls = draw(500, 5)
    assert torch.equal(walls, draw(500, 5))
    layouts = {tuple((maze > 0).flatten().tolist()) for maze in walls}
    assert len(layouts) > 490
    counts = torch.bincount(walls[walls > 0].flatten().long(), minlength=9)[1:]
    assert counts.min() > 0.9 * counts.float().mean()


def test_every_tree_of_the_smallest_maze_is_alike_likely() -> None:
    # One of the four sides of 2 x 2 cells is closed.
    inner = draw(20_000, 2)[:, :, 1] > 0
    shares = inner.flatten(1).float().mean(0)
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.015)


def test_distances_and_ways_are_those_of_a_walk() -> None:
    walls, goal = draw(30, 6), (2, 4)
    cells = torch.tensor(goal).expand(30, 2)
    found, ways, is_open = distances(walls, cells), ways_to(walls, cells), passages(walls)
    for maze, lengths, way, ways_out in zip(walls, found, ways, is_open, strict=True):
        expected = by_walking(maze, goal)
        for (row, column), length in expected.items():
            assert lengths[row, column] == length
            if length:
                direction = int(way[row, column])
                assert ways_out[direction, row, column]
                step = OFFSETS[direction]
                assert expected[row + step[0], column + step[1]] == length - 1


def test_directions_go_clockwise_from_the_east() -> None:
    assert [OFFSETS[way] for way in (EAST, SOUTH, WEST, NORTH)] == list(OFFSETS)
    for before, after in pairwise(OFFSETS):
        assert after == (before[1], -before[0])


def test_walls_as_lines() -> None:
    walls = torch.zeros(2, 3, 2, dtype=torch.uint8)
    walls[0, 1, 0], walls[1, 2, 1] = 3, 1
    assert wall_lines(walls) == [((1, 0), (1, 1)), ((1, 2), (2, 2))]
