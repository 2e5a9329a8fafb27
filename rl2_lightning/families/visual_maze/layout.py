"""The layout of perfect mazes: random generation and shortest paths."""

import torch
from torch import Tensor

EAST, SOUTH, WEST, NORTH = range(4)  # clockwise on a map whose rows go down
OFFSETS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # rows and columns, of these directions


def sample_walls(num_mazes: int, size: int, num_colours: int, generator: torch.Generator) -> Tensor:
    """Draw perfect mazes, in which any two cells are connected by exactly one path.

    Each side between two cells gets a random weight, and the sides of the minimum spanning tree are
    opened. This is the distribution of Prim's and Kruskal's algorithms. It is not uniform over
    spanning trees: trees with many short dead ends are slightly more likely.

    Args:
        num_mazes: B, mazes to draw.
        size: N, cells of a side, at least 2.
        num_colours: number of wall colours, drawn uniformly.
        generator: source of all randomness, on the device of the mazes.

    Returns:
        The sides of the cells, `[B, 2, N + 1, N]`, uint8: 0 for an open side, else the colour of
        the wall, from 1. `[b, 0, i, row]` is the side at x = i of a row, `[b, 1, j, column]` the
        side at y = j of a column.
    """
    device = generator.device
    first, second = _inner_sides(size, device)
    weight = torch.rand(num_mazes, len(first), generator=generator, device=device)
    is_open = torch.zeros_like(weight, dtype=torch.bool)
    is_reached = torch.zeros(num_mazes, size**2, dtype=torch.bool, device=device)
    is_reached[:, 0] = True
    for _ in range(size**2 - 1):
        leads_on = is_reached[:, first] != is_reached[:, second]
        side = weight.masked_fill(~leads_on, torch.inf).argmin(1, keepdim=True)
        is_open.scatter_(1, side, True)
        is_reached.scatter_(1, first[side], True).scatter_(1, second[side], True)
    shape = (num_mazes, 2, size + 1, size)
    walls = torch.randint(1, num_colours + 1, shape, generator=generator, device=device)
    inner = walls[:, :, 1:size]
    inner.masked_fill_(is_open.view(inner.shape), 0)
    return walls.to(torch.uint8)


def _inner_sides(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The two cells on either side of each inner wall, in the order of `sample_walls`."""
    cells = torch.arange(size**2, device=device).view(size, size)
    first = torch.stack([cells[:, :-1].T, cells[:-1]])
    second = torch.stack([cells[:, 1:].T, cells[1:]])
    return first.flatten(), second.flatten()


def passages(walls: Tensor) -> Tensor:
    """The open directions of each cell.

    Args:
        walls: as returned by `sample_walls`.

    Returns:
        `[B, 4, N, N]`, bool: whether the cell of a row and a column is open to the east, south,
        west and north.
    """
    of_rows, of_columns = walls[:, 0].transpose(1, 2) == 0, walls[:, 1] == 0
    ways = [of_rows[:, :, 1:], of_columns[:, 1:], of_rows[:, :, :-1], of_columns[:, :-1]]
    return torch.stack(ways, dim=1)


def distances(walls: Tensor, cell: Tensor) -> Tensor:
    """The distance of each cell, in cells.

    Args:
        walls: as returned by `sample_walls`.
        cell: row and column of the cell to go to, `[B, 2]`, int64.

    Returns:
        `[B, N, N]`, int64.
    """
    size = walls.shape[-1]
    is_open = passages(walls)
    rows = torch.arange(len(walls), device=walls.device)
    far = size**2
    found = torch.full((len(walls), size, size), far, device=walls.device)
    found[rows, cell[:, 0], cell[:, 1]] = 0
    for _ in range(far - 1):
        found = torch.minimum(found, _through(found, is_open, far).amin(1) + 1)
    return found


def ways_to(walls: Tensor, cell: Tensor) -> Tensor:
    """The direction of the path to a cell.

    Args:
        walls: as returned by `sample_walls`.
        cell: row and column of the cell to go to, `[B, 2]`, int64.

    Returns:
        `[B, N, N]`, int64: `EAST`, `SOUTH`, `WEST` or `NORTH`, for each cell but that one.
    """
    far = walls.shape[-1] ** 2
    return _through(distances(walls, cell), passages(walls), far).argmin(1)


def wall_lines(walls: Tensor) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The walls of one maze as lines on a map whose rows go down.

    Args:
        walls: as returned by `sample_walls`, of one maze: `[2, N + 1, N]`.

    Returns:
        Both ends of each, x and y, in cells.
    """
    lines = []
    for axis, line, along in walls.nonzero().tolist():
        if axis == 0:
            lines.append(((line, along), (line, along + 1)))
        else:
            lines.append(((along, line), (along + 1, line)))
    return lines


def _through(values: Tensor, is_open: Tensor, closed: int) -> Tensor:
    """The values of the four neighbours of each cell, `[B, 4, N, N]`; `closed` behind a wall."""
    # What `roll` wraps around lies behind the outer wall of the maze.
    neighbours = [values.roll((-row, -column), (1, 2)) for row, column in OFFSETS]
    return torch.stack(neighbours, dim=1).masked_fill(~is_open, closed)
