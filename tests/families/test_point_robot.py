"""Point robots: goals, motion, rewards and reference players."""

import math

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.play import play_reference
from rl2_lightning.families.point_robot import PointRobot
from rl2_lightning.families.scene import GOAL
from rl2_lightning.families.task_env import Transition


def start(env: PointRobot, goals: list[list[float]]) -> torch.Tensor:
    tasks = TensorDict({GOAL: torch.tensor(goals)}, [len(goals)])
    return env.reset(TensorDict({keys.TASK: tasks}, [len(goals)]))[keys.OBSERVATION]


def play(env: PointRobot, action: torch.Tensor) -> Transition:
    return env.play(action, torch.ones(env.num_tasks, 1, dtype=torch.bool))


def returns_of(name: str, env: PointRobot, goals: torch.Tensor, num_episodes: int) -> torch.Tensor:
    tasks = TensorDict({GOAL: goals}, [len(goals)])
    generator = torch.Generator().manual_seed(5)
    player = env.players(num_episodes)[name]
    return play_reference(player, env, tasks, num_episodes, generator)


def test_goals_are_uniform_on_the_upper_half_circle() -> None:
    env = PointRobot(1, goals="half_circle")
    env.set_seed(1)
    goals = env.sample_tasks(20_000)[GOAL]
    torch.testing.assert_close(torch.linalg.vector_norm(goals, dim=-1), torch.ones(20_000))
    assert (goals[:, 1] >= 0).all()
    # With a uniform angle, quarters of the arc (45, 90 and 135 degrees) have equal probabilities.
    edge = math.cos(math.pi / 4)
    shares = [
        (goals[:, 0] > edge).float().mean().item(),
        (goals[:, 0] > 0).float().mean().item(),
        (goals[:, 0] > -edge).float().mean().item(),
    ]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.015)


def test_goals_are_uniform_in_the_square() -> None:
    env = PointRobot(1, goals="square")
    env.set_seed(2)
    goals = env.sample_tasks(20_000)[GOAL]
    assert goals.abs().max() <= 1
    torch.testing.assert_close(goals.mean(0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(goals.T), torch.eye(2) / 3, atol=0.01, rtol=0)


def test_an_action_leads_a_tenth_in_each_dimension_at_most() -> None:
    env = PointRobot(2)
    assert not start(env, [[0.0, 1.0]] * 2).any()
    first = play(env, torch.tensor([[0.5, -1.0], [7.0, -0.2]])).observation
    torch.testing.assert_close(first, torch.tensor([[0.05, -0.1], [0.1, -0.02]]))
    second = play(env, torch.tensor([[0.5, 0.5], [-1.0, 0.0]])).observation
    torch.testing.assert_close(second, torch.tensor([[0.1, -0.05], [0.0, -0.02]]))


def test_dense_reward_is_minus_the_distance() -> None:
    env = PointRobot(2, goals="square", reward="dense")
    start(env, [[0.4, 0.4], [-0.1, 0.0]])
    reward = play(env, torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).reward
    assert reward.flatten().tolist() == pytest.approx([-0.5, 0.0], abs=1e-6)


def test_sparse_reward_is_earned_within_the_radius_alone() -> None:
    env = PointRobot(4, reward="sparse", goal_radius=0.25)
    start(env, [[0.1, 0.0], [0.3, 0.0], [0.4, 0.0], [0.1, 0.24]])
    reward = play(env, torch.tensor([[1.0, 0.0]]).expand(4, 2)).reward
    assert reward.flatten().tolist() == pytest.approx([1.0, 0.8, 0.0, 0.76], abs=1e-6)


def test_only_time_ends_an_episode() -> None:
    env = PointRobot(3, horizon=4)
    start(env, [[0.0, 1.0]] * 3)
    ends = [play(env, torch.zeros(3, 2)) for _ in range(4)]
    assert [end.episode_done.all().item() for end in ends] == [False, False, False, True]
    assert not any(end.terminated.any() for end in ends)


def test_episodes_begin_at_the_origin_in_the_rows_that_begin() -> None:
    env = PointRobot(2)
    start(env, [[0.0, 1.0]] * 2)
    play(env, torch.ones(2, 2))
    observation = env.start_episodes(torch.tensor([[True], [False]]))
    torch.testing.assert_close(observation, torch.tensor([[0.0, 0.0], [0.1, 0.1]]))


def test_who_does_not_play_stays() -> None:
    env = PointRobot(2)
    start(env, [[0.0, 1.0]] * 2)
    env.play(torch.ones(2, 2), torch.tensor([[True], [False]]))
    torch.testing.assert_close(env.position, torch.tensor([[0.1, 0.1], [0.0, 0.0]]))


def test_known_goal_walks_straight_and_stays() -> None:
    goals = torch.tensor([[0.3, 0.0], [0.0, -0.25], [0.1, 0.2]])
    env = PointRobot(3, reward="dense", horizon=5)
    returns = returns_of("known_goal", env, goals, 2)
    # Distances after each of five steps, by hand; the third moves along both axes at once.
    expected = [-(0.2 + 0.1), -(0.15 + 0.05), -0.1]
    assert returns.shape == (3, 2)
    for episode in returns.T:
        assert episode.tolist() == pytest.approx(expected, abs=1e-5)


def test_known_goal_with_a_sparse_reward() -> None:
    env = PointRobot(1, reward="sparse", horizon=5)
    returns = returns_of("known_goal", env, torch.tensor([[0.35, 0.0]]), 1)
    # Distances 0.25, 0.15, 0.05, 0, 0: the first is too far.
    assert returns.item() == pytest.approx(0.85 + 0.95 + 1 + 1, abs=1e-5)


@pytest.mark.parametrize("reward", ["dense", "sparse"])
def test_nobody_earns_more_than_the_one_who_knows_the_goal(reward: str) -> None:
    env = PointRobot(2000, goals="square", reward=reward, horizon=8)
    env.set_seed(3)
    goals = env.sample_tasks(2000)[GOAL]
    best = returns_of("known_goal", env, goals, 1)
    assert best.any()
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        # Paths towards the goal, with noise, at full speed or slower.
        position, total = start(env, goals.tolist()), torch.zeros(2000, 1)
        for _ in range(8):
            noise = 0.3 * torch.randn(2000, 2, generator=generator)
            position, earned, *_ = play(env, (goals - position) / 0.1 + noise)
            total = total + earned
        assert (total <= best + 1e-5).all()


def test_known_goal_takes_actions_within_their_bounds() -> None:
    env = PointRobot(500)
    env.set_seed(4)
    observation = env.reset()[keys.OBSERVATION]
    player = env.players(1)["known_goal"]
    action = player.choose(player.start(env.tasks), observation, env.generator)
    assert (env.action_spec.project(action.clone()) == action).all()


def test_random_play_is_a_random_walk() -> None:
    env = PointRobot(20_000, reward="dense", horizon=1)
    returns = returns_of("random", env, torch.zeros(20_000, 2), 1)
    # Mean distance of a uniform point in a square of half side 0.1 from its centre.
    mean = 0.1 * (2**0.5 + torch.asinh(torch.tensor(1.0)).item()) / 3
    assert returns.mean().item() == pytest.approx(-mean, abs=5e-4)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (
            {"goals": "ring"},
            "^env.goals=ring is unknown: use env.goals=half_circle or env.goals=square$",
        ),
        (
            {"reward": "rich"},
            "^env.reward=rich is unknown: use env.reward=dense or env.reward=sparse$",
        ),
        ({"goal_radius": 0.0}, "^env.goal_radius=0.0 is out of range: set it to at least 0.01$"),
        ({"goal_radius": 1.5}, "^env.goal_radius=1.5 is out of range: set it to at most 1$"),
        ({"horizon": 0}, "^env.horizon=0 is out of range: set it to at least 1$"),
    ],
)
def test_robots_that_make_no_sense(field: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PointRobot(3, **field)
