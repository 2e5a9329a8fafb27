"""Arms with normal rewards: the distributions of means and rewards."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.gaussian_bandit import ARM_MEANS, GaussianBandit
from tests.families.bandits import pull

NUM_TASKS = 40_000


def start(env: GaussianBandit, means: torch.Tensor) -> None:
    tasks = TensorDict({ARM_MEANS: means.expand(env.num_tasks, -1)}, [env.num_tasks])
    env.reset(TensorDict({keys.TASK: tasks}, [env.num_tasks]))


def test_means_are_standard_normal_and_independent() -> None:
    env = GaussianBandit(1, num_arms=3)
    env.set_seed(1)
    means = env.sample_tasks(NUM_TASKS)[ARM_MEANS]
    assert means.shape == (NUM_TASKS, 3)
    torch.testing.assert_close(means.mean(0), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(means.T), torch.eye(3), atol=0.03, rtol=0)
    assert ((means.abs() < 1).float().mean() - 0.683).abs() < 0.01


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_rewards_are_normal_around_their_means(noise: float) -> None:
    env = GaussianBandit(NUM_TASKS, num_arms=2, noise=noise)
    env.set_seed(2)
    start(env, torch.tensor([-1.0, 4.0]))
    for arm, mean in enumerate([-1.0, 4.0]):
        played = pull(env, torch.full((NUM_TASKS,), arm))
        assert played.reward.shape == (NUM_TASKS, 1)
        assert played.reward.mean().item() == pytest.approx(mean, abs=4 * noise / NUM_TASKS**0.5)
        assert played.reward.std().item() == pytest.approx(noise, rel=0.02)
        within = ((played.reward - mean).abs() < noise).float().mean().item()
        assert within == pytest.approx(0.683, abs=0.01)
        assert played.episode_done.all()
        assert played.terminated.all()


def test_each_row_pulls_its_own_arm() -> None:
    env = GaussianBandit(3, num_arms=3, noise=0.01)
    tasks = TensorDict({ARM_MEANS: 10 * torch.arange(9.0).view(3, 3)}, [3])
    env.reset(TensorDict({keys.TASK: tasks}, [3]))
    reward = pull(env, torch.tensor([0, 2, 1])).reward.flatten()
    assert (reward / 10).round().tolist() == [0, 5, 7]
    assert env.expected_reward(torch.tensor([0, 2, 1])).flatten().tolist() == [0, 50, 70]


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ({"num_arms": 1}, "env.num_arms=1 is out of range: set it to at least 2"),
        ({"noise": 0.0}, "env.noise=0.0 is out of range: set it to at least 0.01"),
        ({"noise": -1.0}, "env.noise=-1.0 is out of range: set it to at least 0.01"),
    ],
)
def test_wrong_sizes_are_refused(sizes: dict[str, float], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}$"):
        GaussianBandit(3, **sizes)
