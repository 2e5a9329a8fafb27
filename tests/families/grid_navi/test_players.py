"""The reference players of GridNavi."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.families.grid_navi import GridNavi
from rl2_lightning.families.grid_navi.goal_search import GoalSearch, goal_cells
from rl2_lightning.families.grid_navi.players import MAX_SIZE
from rl2_lightning.families.play import play_reference
from rl2_lightning.families.scene import GOAL


def tasks_of(goals: list[list[float]]) -> TensorDict:
    return TensorDict({GOAL: torch.tensor(goals)}, [len(goals)])


def played(name: str, tasks: TensorDict, num_episodes: int = 4, size: int = 5) -> torch.Tensor:
    env = GridNavi(len(tasks), size=size)
    generator = torch.Generator().manual_seed(1)
    player = env.players(num_episodes)[name]
    return play_reference(player, env, tasks, num_episodes, generator)


def all_goals(size: int = 5) -> TensorDict:
    cells = goal_cells(size)
    return tasks_of(torch.stack([cells // size, cells % size], dim=1).float().tolist())


def test_one_who_knows_the_goal_goes_straight_there() -> None:
    returns = played("known_goal", tasks_of([[0.0, 2.0], [4.0, 4.0]]), 2)
    # One step on the way and fourteen at the goal; seven on the way and eight at the goal.
    torch.testing.assert_close(returns, torch.tensor([[13.9, 13.9], [7.3, 7.3]]))


def test_the_optimum_earns_its_value() -> None:
    returns = played("bayes_optimal", all_goals())
    value = GoalSearch(5, 15, 4).value
    assert returns.sum(1).mean().item() == pytest.approx(value, abs=1e-5)
    assert returns.shape == (21, 4)


def test_once_found_the_goal_is_known() -> None:
    optimum, known = played("bayes_optimal", all_goals()), played("known_goal", all_goals())
    assert (optimum <= known + 1e-5).all()
    torch.testing.assert_close(optimum[:, 2:], known[:, 2:])
    found_at_once = optimum[:, 0] > -1.45
    assert found_at_once.sum() == 14
    torch.testing.assert_close(optimum[found_at_once, 1], known[found_at_once, 1])
    torch.testing.assert_close(optimum[~found_at_once, 0], torch.full((7,), -1.5))


def test_the_optimum_is_the_reference_where_it_is_computed() -> None:
    assert next(reversed(GridNavi(1, size=MAX_SIZE).players(4))) == "bayes_optimal"
    assert next(reversed(GridNavi(1, size=MAX_SIZE + 1).players(4))) == "known_goal"


def test_a_random_walk_earns_what_chance_gives() -> None:
    # Each step is on the goal with the probability given by the Markov chain of moves.
    chain = torch.zeros(25, 25)
    for cell in range(25):
        row, column = divmod(cell, 5)
        for down, right in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
            to = min(max(row + down, 0), 4) * 5 + min(max(column + right, 0), 4)
            chain[cell, to] += 0.2
    at, expected = torch.eye(25)[0], 0.0
    for _ in range(15):
        at = at @ chain
        expected += 1.1 * at[6 + 1].item() - 0.1  # cell (1, 2)
    returns = played("random", tasks_of([[1.0, 2.0]] * 20_000), 2)
    standard_error = returns.std().item() / 20_000**0.5
    assert returns.mean(0).tolist() == pytest.approx([expected] * 2, abs=4 * standard_error)
