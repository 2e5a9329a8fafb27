"""Bernoulli bandits: one pull per episode, and arms that pay with their probabilities."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.env import ARM_PROBABILITIES
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from tests.families.bandits import pull


def test_arms_pay_as_often_as_their_probability_says() -> None:
    num_tasks = 40_000
    env = BernoulliBandit(num_tasks, num_arms=4)
    env.set_seed(1)
    probabilities = torch.tensor([0.0, 0.2, 0.7, 1.0])
    tasks = TensorDict({ARM_PROBABILITIES: probabilities.expand(num_tasks, 4)}, [num_tasks])
    env.reset(TensorDict({keys.TASK: tasks}, [num_tasks]))
    for arm, probability in enumerate(probabilities.tolist()):
        reward = pull(env, torch.full((num_tasks,), arm)).reward
        assert set(reward.unique().tolist()) <= {0.0, 1.0}
        standard_error = (probability * (1 - probability) / num_tasks) ** 0.5
        assert abs(reward.mean().item() - probability) <= 4 * standard_error


def test_each_row_pulls_its_own_arm() -> None:
    env = BernoulliBandit(3, num_arms=3)
    tasks = TensorDict({ARM_PROBABILITIES: torch.eye(3)}, [3])
    env.reset(TensorDict({keys.TASK: tasks}, [3]))
    assert pull(env, torch.tensor([0, 1, 2])).reward.flatten().tolist() == [1, 1, 1]
    assert pull(env, torch.tensor([1, 1, 1])).reward.flatten().tolist() == [0, 1, 0]


def test_probabilities_are_uniform_and_independent() -> None:
    env = BernoulliBandit(1, num_arms=3)
    env.set_seed(5)
    arms = env.sample_tasks(20_000)[ARM_PROBABILITIES]
    assert arms.shape == (20_000, 3)
    assert arms.min() >= 0
    assert arms.max() <= 1
    torch.testing.assert_close(arms.mean(0), torch.full((3,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(arms.var(0), torch.full((3,), 1 / 12), atol=0.002, rtol=0)
    torch.testing.assert_close(torch.corrcoef(arms.T), torch.eye(3), atol=0.03, rtol=0)


def test_every_pull_is_an_episode() -> None:
    env = BernoulliBandit(5, num_arms=2)
    env.reset()
    transition = pull(env, torch.zeros(5, dtype=torch.int64))
    assert transition.episode_done.all()
    assert transition.terminated.all()
    assert env.max_episode_steps == 1


@pytest.mark.parametrize("num_arms", [1, 0, -2])
def test_a_bandit_needs_two_arms(num_arms: int) -> None:
    with pytest.raises(
        UserError, match=f"^env.num_arms={num_arms} is out of range: set it to at least 2$"
    ):
        BernoulliBandit(3, num_arms=num_arms)


def test_the_expected_reward_is_that_of_the_pulled_arm() -> None:
    env = BernoulliBandit(2, num_arms=3)
    tasks = TensorDict({ARM_PROBABILITIES: torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])}, [2])
    env.reset(TensorDict({keys.TASK: tasks}, [2]))
    expected = env.expected_reward(torch.tensor([2, 0]))
    torch.testing.assert_close(expected, torch.tensor([[0.3], [0.4]]))
