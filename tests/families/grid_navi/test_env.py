"""GridNavi: moves and borders, goals, and rewards."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.grid_navi import GridNavi
from rl2_lightning.families.scene import GOAL
from rl2_lightning.families.task_env import Transition
from rl2_lightning.families.trial_env import TrialEnv

STAY, UP, RIGHT, DOWN, LEFT = range(5)


def start(goals: list[list[float]], **options: int) -> GridNavi:
    env = GridNavi(len(goals), **options)
    tasks = TensorDict({GOAL: torch.tensor(goals)}, [len(goals)])
    env.reset(TensorDict({keys.TASK: tasks}, [len(goals)]))
    return env


def play(env: GridNavi, action: torch.Tensor) -> Transition:
    return env.play(action, torch.ones(env.num_tasks, 1, dtype=torch.bool))


def walk(env: GridNavi, actions: list[int]) -> tuple[list[list[int]], list[float]]:
    """Cells and rewards of the first grid."""
    cells, rewards = [], []
    for action in actions:
        transition = play(env, torch.full((env.num_tasks,), action))
        cells.append((transition.observation[0] * (env.settings.size - 1)).round().int().tolist())
        rewards.append(round(transition.reward[0].item(), 6))
    return cells, rewards


def test_moves_and_walls() -> None:
    env = start([[4.0, 4.0]])
    cells, _ = walk(env, [UP, LEFT, RIGHT, DOWN, DOWN, LEFT, STAY, UP])
    assert cells == [[0, 0], [0, 0], [0, 1], [1, 1], [2, 1], [2, 0], [2, 0], [1, 0]]
    cells, _ = walk(env, [DOWN] * 5 + [RIGHT] * 5)
    assert cells[-1] == [4, 4]


def test_each_step_on_the_goal_pays() -> None:
    env = start([[0.0, 2.0]])
    _, rewards = walk(env, [RIGHT, RIGHT, STAY, UP, DOWN])
    assert rewards == [-0.1, 1, 1, 1, -0.1]


def test_goals_are_in_all_cells_but_those_at_the_start() -> None:
    env = GridNavi(1)
    env.set_seed(2)
    num_tasks = 42_000
    goals = env.sample_tasks(num_tasks)[GOAL]
    counts = torch.zeros(5, 5)
    counts.index_put_(tuple(goals.long().T), torch.ones(num_tasks), accumulate=True)
    assert not counts[:2, :2].any()
    rest = torch.cat([counts[:2, 2:].flatten(), counts[2:].flatten()])
    assert len(rest) == 21
    assert (rest - 2000).abs().max() < 4.5 * (2000 * 20 / 21) ** 0.5


def test_each_row_has_its_own_goal() -> None:
    env = start([[0.0, 2.0], [2.0, 0.0]])
    play(env, torch.tensor([RIGHT, DOWN]))
    reward = play(env, torch.tensor([RIGHT, RIGHT])).reward
    torch.testing.assert_close(reward, torch.tensor([[1.0], [-0.1]]))


def test_an_episode_begins_in_the_corner_and_the_goal_stays() -> None:
    env = TrialEnv(GridNavi(2, horizon=3), episodes_per_trial=2)
    state = env.reset()
    goal = env.task_env.tasks[GOAL].clone()
    for _ in range(3):
        _, state = env.step_and_maybe_reset(state.set(keys.ACTION, torch.tensor([DOWN, RIGHT])))
    assert not state[keys.OBSERVATION].any()
    assert torch.equal(env.task_env.tasks[GOAL], goal)


def test_who_does_not_play_stays() -> None:
    env = start([[0.0, 2.0], [0.0, 2.0]])
    env.play(torch.tensor([RIGHT, RIGHT]), torch.tensor([[True], [False]]))
    assert env.position.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("options", "told"),
    [({"size": 2}, "^env.size=2 .*at least 3$"), ({"horizon": 0}, "^env.horizon=0 .*at least 1$")],
)
def test_impossible_grids(options: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        GridNavi(1, **options)
