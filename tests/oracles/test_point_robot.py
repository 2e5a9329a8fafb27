"""The players of point robots: exact returns, and a bound that no path passes."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.envs.point_robot import PointRobot
from rl2_lightning.oracles.point_robot import KnownGoal, RandomPoint, reward_at, sample_goals


def tasks_at(goals: torch.Tensor) -> TensorDict:
    return TensorDict({keys.GOAL: goals}, [len(goals)])


def test_known_goal_walks_straight_and_stays() -> None:
    goals = torch.tensor([[0.3, 0.0], [0.0, -0.25], [0.1, 0.2]])
    player = KnownGoal(5, "dense", 0.2)
    returns = player.play(tasks_at(goals), 2, torch.Generator())
    # Distances after each of five steps, by hand; the third moves along both axes at once.
    expected = [-(0.2 + 0.1), -(0.15 + 0.05), -0.1]
    assert returns.shape == (3, 2)
    for episode in returns.T:
        assert episode.tolist() == pytest.approx(expected, abs=1e-5)


def test_known_goal_with_a_sparse_reward() -> None:
    player = KnownGoal(5, "sparse", 0.2)
    returns = player.play(tasks_at(torch.tensor([[0.35, 0.0]])), 1, torch.Generator())
    # Distances 0.25, 0.15, 0.05, 0, 0: the first is too far.
    assert returns.item() == pytest.approx(0.85 + 0.95 + 1 + 1, abs=1e-5)


@pytest.mark.parametrize("reward", ["dense", "sparse"])
def test_nobody_earns_more_than_the_one_who_knows_the_goal(reward: str) -> None:
    generator = torch.Generator().manual_seed(3)
    goals = sample_goals(2000, "square", generator)
    best = KnownGoal(8, reward, 0.2).play(tasks_at(goals), 1, generator)
    for _ in range(20):
        # Paths that go towards the goal, with noise, and as fast as can be or not.
        position, total = torch.zeros_like(goals), torch.zeros(2000, 1)
        for _ in range(8):
            noise = 0.3 * torch.randn(2000, 2, generator=generator)
            step = (0.1 * ((goals - position) / 0.1 + noise)).clamp(-0.1, 0.1)
            position = position + step
            total = total + reward_at(position, goals, reward, 0.2)
        assert (total <= best + 1e-5).all()


@pytest.mark.parametrize("reward", ["dense", "sparse"])
def test_players_earn_what_their_actions_earn_in_the_environment(reward: str) -> None:
    env = PointRobot(500, goals="half_circle", reward=reward, horizon=12)
    env.set_seed(4)
    env.reset()
    player = KnownGoal(12, reward, 0.2)
    observation, total = torch.zeros(500, 2), torch.zeros(500, 1)
    for _ in range(12):
        action = player.act(observation, env.tasks[keys.GOAL], torch.Generator())
        assert (env.action_spec.project(action.clone()) == action).all()
        transition = env.play(action)
        observation, total = transition.observation, total + transition.reward
    assert total.any()
    torch.testing.assert_close(total, player.play(env.tasks, 1, torch.Generator()))


def test_random_play_is_a_random_walk() -> None:
    generator = torch.Generator().manual_seed(5)
    goals = torch.zeros(20_000, 2)
    returns = RandomPoint(1, "dense", 0.2).play(tasks_at(goals), 1, generator)
    # Mean distance of the middle of a square of half side 0.1 from a uniform point in it.
    mean = 0.1 * (2**0.5 + torch.asinh(torch.tensor(1.0)).item()) / 3
    assert returns.mean().item() == pytest.approx(-mean, abs=5e-4)
