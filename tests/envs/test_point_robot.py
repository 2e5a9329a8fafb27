"""Point robots: where goals are, how far an action leads, what is earned."""

import math

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.envs.point_robot import PointRobot
from rl2_lightning.errors import UserError


def start(env: PointRobot, goals: list[list[float]]) -> torch.Tensor:
    tasks = TensorDict({keys.GOAL: torch.tensor(goals)}, [len(goals)])
    return env.reset(TensorDict({keys.TASK: tasks}, [len(goals)]))[keys.OBSERVATION]


def test_goals_are_uniform_on_the_upper_half_circle() -> None:
    env = PointRobot(1, goals="half_circle")
    env.set_seed(1)
    goals = env.sample_tasks(20_000)[keys.GOAL]
    torch.testing.assert_close(torch.linalg.vector_norm(goals, dim=-1), torch.ones(20_000))
    assert (goals[:, 1] >= 0).all()
    # A uniform angle has quarters of the arc alike likely: cut at 45, 90 and 135 degrees.
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
    goals = env.sample_tasks(20_000)[keys.GOAL]
    assert goals.abs().max() <= 1
    torch.testing.assert_close(goals.mean(0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(goals.T), torch.eye(2) / 3, atol=0.01, rtol=0)


def test_an_action_leads_a_tenth_in_each_dimension_at_most() -> None:
    env = PointRobot(2)
    assert not start(env, [[0.0, 1.0]] * 2).any()
    first = env.play(torch.tensor([[0.5, -1.0], [7.0, -0.2]])).observation
    torch.testing.assert_close(first, torch.tensor([[0.05, -0.1], [0.1, -0.02]]))
    second = env.play(torch.tensor([[0.5, 0.5], [-1.0, 0.0]])).observation
    torch.testing.assert_close(second, torch.tensor([[0.1, -0.05], [0.0, -0.02]]))


def test_dense_reward_is_minus_the_distance() -> None:
    env = PointRobot(2, goals="square", reward="dense")
    start(env, [[0.4, 0.4], [-0.1, 0.0]])
    reward = env.play(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).reward
    assert reward.flatten().tolist() == pytest.approx([-0.5, 0.0], abs=1e-6)


def test_sparse_reward_is_earned_within_the_radius_alone() -> None:
    env = PointRobot(4, reward="sparse", goal_radius=0.25)
    start(env, [[0.1, 0.0], [0.3, 0.0], [0.4, 0.0], [0.1, 0.24]])
    reward = env.play(torch.tensor([[1.0, 0.0]]).expand(4, 2)).reward
    assert reward.flatten().tolist() == pytest.approx([1.0, 0.8, 0.0, 0.76], abs=1e-6)


def test_only_time_ends_an_episode() -> None:
    env = PointRobot(3, horizon=4)
    start(env, [[0.0, 1.0]] * 3)
    ends = [env.play(torch.zeros(3, 2)) for _ in range(4)]
    assert [end.episode_done.all().item() for end in ends] == [False, False, False, True]
    assert not any(end.terminated.any() for end in ends)


def test_episodes_begin_at_the_origin_in_the_rows_that_begin() -> None:
    env = PointRobot(2)
    start(env, [[0.0, 1.0]] * 2)
    env.play(torch.ones(2, 2))
    observation = env.start_episodes(torch.tensor([[True], [False]]))
    torch.testing.assert_close(observation, torch.tensor([[0.0, 0.0], [0.1, 0.1]]))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"goals": "ring"}, "^goals=ring are unknown: use one of half_circle, square$"),
        ({"reward": "rich"}, "^reward=rich is unknown: use one of dense, sparse$"),
        ({"goal_radius": 0.0}, "^goal_radius=0.0: it lies above 0, and is at most 1$"),
        ({"goal_radius": 1.5}, "^goal_radius=1.5: "),
        ({"horizon": 0}, "^horizon=0: an episode needs at least 1 step$"),
    ],
)
def test_robots_that_make_no_sense(field: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PointRobot(3, **field)
