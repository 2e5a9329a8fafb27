"""The cells that are searched before the goal is found, compared to a literal walk."""

import math

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.families.grid_navi import GridNavi
from rl2_lightning.families.grid_navi.goal_search import MOVES, goal_cells
from rl2_lightning.families.grid_navi.searched_cells import searched_cells
from rl2_lightning.families.play import play_reference_trials
from rl2_lightning.families.scene import GOAL

UP, RIGHT, DOWN = 1, 2, 3


def literal(
    actions: list[int], goal: tuple[int, int], horizon: int
) -> tuple[list[int], list[bool]]:
    """Walk through a trial on 5 x 5 cells, with sets."""
    searched: set[int] = set()
    is_found = False
    cells, found = [], []
    for begin in range(0, len(actions), horizon):
        row = column = 0
        for action in actions[begin : begin + horizon]:
            down, right = MOVES[action]
            row, column = min(max(row + down, 0), 4), min(max(column + right, 0), 4)
            is_found = is_found or (row, column) == goal
            if not is_found and row * 5 + column in goal_cells(5):
                searched.add(row * 5 + column)
        cells.append(len(searched))
        found.append(is_found)
    return cells, found


def test_a_walk_along_the_wall() -> None:
    tasks = TensorDict({GOAL: torch.tensor([[0.0, 3.0], [4.0, 4.0]])}, [2])
    steps = walked(tasks, [RIGHT, RIGHT, RIGHT, RIGHT, DOWN, UP])
    cells, found = searched_cells(steps, 5, 1)
    # The first cell cannot be the goal; (0, 2) is searched in vain, and then the goal is found.
    assert cells.tolist() == [[1], [4]], "going back to (0, 4) searches nothing new"
    assert found.tolist() == [[True], [False]]


def walked(tasks: TensorDict, actions: list[int]) -> TensorDict:
    """One episode of the same actions for each task, and garbage in two idle steps."""
    env = GridNavi(len(tasks), horizon=len(actions))
    playing = torch.ones(len(tasks), 1, dtype=torch.bool)
    env.set_tasks(tasks, playing)
    observation = env.begin_episodes(playing)
    rows = []
    for action in actions:
        now = observation
        chosen = torch.full((len(tasks),), action)
        observation, reward, _ = env.advance(chosen, playing)
        rows.append((now, chosen, reward))
    steps = TensorDict(
        {
            keys.OBSERVATION: torch.stack([*(now for now, _, _ in rows), *[rows[0][0]] * 2], 1),
            keys.ACTION: torch.stack([*(chosen for _, chosen, _ in rows), *[rows[0][1]] * 2], 1),
            keys.REWARD: torch.stack([*(reward for _, _, reward in rows), *[rows[0][2]] * 2], 1),
            keys.EPISODE: torch.zeros(len(tasks), len(actions) + 2, 1, dtype=torch.int64),
            keys.MASK: torch.ones(len(tasks), len(actions) + 2, 1, dtype=torch.bool),
        },
        [len(tasks), len(actions) + 2],
    )
    steps[keys.MASK][:, len(actions) :] = False
    steps[keys.OBSERVATION][:, len(actions) :] = math.nan
    steps[keys.REWARD][:, len(actions) :] = math.inf
    steps[keys.ACTION][:, len(actions) :] = 1000
    return steps


def test_random_walks_equal_a_literal_count() -> None:
    env = GridNavi(50)
    env.set_seed(3)
    tasks = env.sample_tasks(50)
    generator = torch.Generator().manual_seed(4)
    steps = play_reference_trials(env.players(3)["random"], env, tasks, 3, generator)
    cells, found = searched_cells(steps, 5, 3)
    for row in range(50):
        goal = tuple(map(int, tasks[GOAL][row].tolist()))
        expected = literal(steps[keys.ACTION][row].flatten().tolist(), goal, 15)
        assert (cells[row].tolist(), found[row].tolist()) == expected
    assert 0 < found.float().mean() < 1


def test_the_figures() -> None:
    env = GridNavi(2)
    analysis = env.analysis(1)
    metric = analysis.make_metric(sync_on_compute=False)
    tasks = TensorDict({GOAL: torch.tensor([[0.0, 3.0], [4.0, 4.0]])}, [2])
    analysis.add(metric, walked(tasks, [RIGHT, RIGHT, RIGHT, RIGHT, DOWN, UP]))
    found = metric.compute().estimates()
    assert found["cells_episode_1"].value == pytest.approx(2.5)
    assert found["found_episode_1"].value == pytest.approx(0.5)
