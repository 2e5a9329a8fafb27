"""The optimal search, compared to all paths and to values by hand."""

from itertools import product

import pytest

from rl2_lightning.families.grid_navi.goal_search import GoalSearch

MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
GOALS_OF_3 = [(2, 0), (2, 1), (2, 2), (0, 2), (1, 2)]


def cells_of_all_episodes(horizon: int) -> set[tuple[tuple[int, int], ...]]:
    """The cells of every path of one episode on a grid of 3 x 3."""
    paths = set()
    for moves in product(MOVES, repeat=horizon):
        row = column = 0
        cells = []
        for down, right in moves:
            row, column = min(max(row + down, 0), 2), min(max(column + right, 0), 2)
            cells.append((row, column))
        paths.add(tuple(cells))
    return paths


def return_of(search: list[tuple[int, int]], goal: tuple[int, int], horizon: int) -> float:
    """The return of following a path through all episodes until the goal is found."""
    if goal not in search:
        return -0.1 * len(search)
    before = search.index(goal)
    episode, step = divmod(before, horizon)
    to_walk = min(sum(goal) - 1, horizon)
    known = -0.1 * to_walk + horizon - to_walk
    return -0.1 * before + (horizon - step) + (len(search) // horizon - 1 - episode) * known


@pytest.mark.parametrize(("horizon", "num_episodes"), [(2, 2), (3, 1), (3, 2), (4, 1), (2, 3)])
def test_no_path_is_better(horizon: int, num_episodes: int) -> None:
    episodes = cells_of_all_episodes(horizon)
    best = max(
        sum(return_of(sum(paths, ()), goal, horizon) for goal in GOALS_OF_3) / len(GOALS_OF_3)
        for paths in product(episodes, repeat=num_episodes)
    )
    assert GoalSearch(3, horizon, num_episodes).value == pytest.approx(best, abs=1e-9)


def test_a_row_of_goals_is_searched_as_by_hand() -> None:
    # Two steps to the first goal, and then one more for each: the path never turns back.
    search = GoalSearch(3, 6, 1)
    assert sorted(search.first_visits[search.goals]) == [2, 3, 4, 5, 6]
    assert search.value == pytest.approx(sum(-0.1 * k + 6 - k for k in range(1, 6)) / 5)


def test_the_grid_of_the_paper() -> None:
    search = GoalSearch(5, 15, 4)
    visits = search.first_visits[search.goals]
    # At most 14 of the 21 goals can be visited in the first episode, and they are.
    assert (visits <= 15).sum() == 14
    assert (visits <= 30).all()
    assert len(set(visits)) == 21
    assert search.value == pytest.approx(781.5 / 21)


def test_what_cannot_be_reached_is_never_visited() -> None:
    search = GoalSearch(3, 2, 3)
    assert search.first_visits[8] == 7
