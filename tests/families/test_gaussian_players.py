"""Players of arms with normal rewards: posteriors by hand, indices by quadrature, and play."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.gaussian_gittins import bonus_table
from rl2_lightning.families.bandits.policies import Tally
from rl2_lightning.families.gaussian_bandit import (
    ARM_MEANS,
    BayesUCB,
    GaussianBandit,
    GittinsGaussian,
    GreedyGaussian,
    ThompsonSamplingGaussian,
)
from tests.families.bandits import draw_tasks, play
from tests.families.draws import seeded

NUM_PULLS, NUM_ARMS = 30, 4


def play_gaussian(player, tasks: TensorDict, num_pulls: int, seed: int) -> torch.Tensor:
    num_arms = tasks[ARM_MEANS].shape[1]
    return play(player, tasks, num_pulls, seed, GaussianBandit, num_arms=num_arms)


def gaussian_bandits(num_tasks: int, seed: int) -> TensorDict:
    return draw_tasks(GaussianBandit, num_tasks, seed, num_arms=NUM_ARMS)


def test_belief():
    pulls, totals = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0.0, 2.0, -6.0]])
    mean, deviation = GreedyGaussian(3, 1.0).belief(Tally(pulls, totals, 1))
    assert mean[0].tolist() == pytest.approx([0, 1, -1.5])
    assert deviation[0].tolist() == pytest.approx([1, 0.5**0.5, 0.5])
    # With twice the noise a pull counts for a quarter.
    mean, deviation = GreedyGaussian(3, 2.0).belief(Tally(pulls, totals, 1))
    assert mean[0].tolist() == pytest.approx([0, 0.4, -6 / 7])
    assert deviation[0].tolist() == pytest.approx([1, 0.8**0.5, (4 / 7) ** 0.5])


def test_beliefs_are_calibrated():
    means = torch.randn(200_000, generator=seeded(0))
    totals = 3 * means + 2 * 3**0.5 * torch.randn(200_000, generator=seeded(1))
    mean, deviation = GreedyGaussian(1, 2.0).belief(Tally(torch.full_like(totals, 3), totals, 3))
    error = (means - mean) / deviation
    assert error.mean().item() == pytest.approx(0, abs=0.01)
    assert error.std().item() == pytest.approx(1, abs=0.01)


def test_greedy_takes_the_first_of_the_highest_means():
    pulls, totals = torch.tensor([[1.0, 0.0, 1.0], [2.0, 0.0, 0.0]]), torch.zeros(2, 3)
    totals[0, 2], totals[1, 0] = 1.0, -1.0
    assert GreedyGaussian(3, 1.0).choose(Tally(pulls, totals, 2), pulls, seeded(0)).tolist() == [
        2,
        1,
    ]


def test_thompson_pulls_an_arm_as_often_as_it_is_best():
    pulls = torch.tensor([[1.0, 0.0]]).expand(40_000, 2)
    totals = torch.tensor([[2.0, 0.0]]).expand(40_000, 2)
    player = ThompsonSamplingGaussian(2, 1.0)
    arms = player.choose(Tally(pulls, totals, 1), pulls, seeded(0))
    # P(N(1, 1/2) > N(0, 1)) = Phi(1 / sqrt(3/2)).
    expected = 0.5 * (1 + math.erf(1 / 3**0.5))
    assert (arms == 0).float().mean().item() == pytest.approx(expected, abs=0.01)


def test_bayes_ucb_follows_the_quantile():
    # The 40th pull uses the quantile 0.975, 1.95996 standard deviations above the mean. A posterior
    # of deviation 1/2 has the prior's quantile if its mean is 0.97998: with 3 pulls, 3.91993 / 4.
    pulls = torch.tensor([[3.0, 0.0], [3.0, 0.0]])
    totals = torch.tensor([[3.922, 0.0], [3.918, 0.0]])
    assert BayesUCB(2, 1.0).choose(Tally(pulls, totals, 39), pulls, seeded(0)).tolist() == [0, 1]


def literal_bonus(left: int, seen: int, noise: float) -> float:
    """The root of W by bisection, with expectations as sums over a fine grid, all nested."""
    points = np.linspace(-7, 7, 401)
    weights = np.exp(-(points**2) / 2)
    weights /= weights.sum()

    @cache
    def variance(pulls: int) -> float:
        return 1 / (1 + pulls / noise**2)

    def going_on(excess: np.ndarray, left: int, seen: int) -> np.ndarray:
        if left == 1:
            return excess
        spread = (variance(seen) - variance(seen + 1)) ** 0.5
        following = going_on(np.add.outer(excess, spread * points), left - 1, seen + 1)
        return excess + np.maximum(following, 0) @ weights

    low, high = -5.0, 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if going_on(np.array([middle]), left, seen)[0] > 0:
            high = middle
        else:
            low = middle
    return -high


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_bonuses_are_the_literal_recursion(noise):
    table = bonus_table(5, noise)
    assert table.shape == (5, 5)
    for left in (1, 2, 3):
        for seen in (0, 2):
            expected = literal_bonus(left, seen, noise)
            assert table[left - 1, seen] == pytest.approx(expected, abs=2e-3)


def test_the_bonus_of_two_pulls():
    # The root of x + pdf(x) + x cdf(x) is -0.27600; the spread of the mean after a pull 1/sqrt(2).
    assert bonus_table(2, 1.0)[1, 0] == pytest.approx(0.27600 / 2**0.5, abs=5e-4)


def test_bonuses_grow_with_the_pulls_left_and_fall_with_those_seen():
    table = bonus_table(20, 1.0)
    np.testing.assert_allclose(table[0], 0, atol=1e-6)
    assert (np.diff(table[:, 0]) > 0).all()
    for left in range(2, 20):
        assert (np.diff(table[left - 1, : 20 - left + 1]) < 0).all()


def players(num_arms: int = NUM_ARMS):
    return GaussianBandit(1, num_arms=num_arms).players(NUM_PULLS)


@pytest.fixture(params=players())
def name(request):
    return request.param


def test_returns_are_rewards_of_single_pulls(name):
    player = players()[name]
    tasks = gaussian_bandits(20, seed=0)
    before = tasks.clone()
    # Tensors created on another device than the tasks' would raise an error.
    with torch.device("meta"):
        returns = play_gaussian(player, tasks, NUM_PULLS, seed=1)
    assert returns.shape == (20, NUM_PULLS)
    assert returns.dtype == torch.float32
    assert (tasks == before).all()
    assert torch.equal(play_gaussian(player, tasks, NUM_PULLS, seed=1), returns)
    assert not torch.equal(play_gaussian(player, tasks, NUM_PULLS, seed=2), returns)


def test_rows_earn_what_their_own_arms_pay(name):
    tasks = TensorDict({ARM_MEANS: torch.tensor([[100.0] * 3, [-100.0] * 3])}, [2])
    returns = play_gaussian(players(num_arms=3)[name], tasks, NUM_PULLS, seed=1)
    assert (returns[0] > 90).all()
    assert (returns[1] < -90).all()


def test_the_players_stand_in_their_order():
    tasks = gaussian_bandits(10_000, seed=3)
    means = {
        name: play_gaussian(player, tasks, NUM_PULLS, seed=4).sum(1).mean().item()
        for name, player in players().items()
    }
    assert list(means)[-1] == "gittins"
    assert means["random"] == pytest.approx(0, abs=0.5)
    assert means["gittins"] > means["bayes_ucb"] > means["thompson"] > means["random"] + 5
    assert means["gittins"] > means["greedy"] + 1
    best = tasks[ARM_MEANS].amax(1).mean().item() * NUM_PULLS
    assert means["gittins"] < best


def test_a_longer_trial_than_the_horizon_is_refused():
    player = GittinsGaussian(NUM_ARMS, 1.0, num_pulls=6)
    with pytest.raises(UserError, match=r"^pull 7 of a trial: .*made for 6 pulls"):
        play_gaussian(player, gaussian_bandits(2, seed=0), 7, seed=0)
