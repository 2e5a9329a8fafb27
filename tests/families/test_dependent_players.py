"""Players of two dependent arms: exact optima, posteriors by hand, and their assumptions."""

from functools import cache

import pytest
import torch

from rl2_lightning.families.dependent_bandit import (
    BayesOptimalDependent,
    DependentBandit,
    ThompsonSamplingDependent,
    evidence,
    first_arm_mean,
)
from tests.families.bandits import draw_tasks, play, tally
from tests.families.draws import seeded

# Exact expected returns of 100 pulls.
VALUES = {None: 73.779, 0.1: 89.375, 0.25: 74.000, 0.4: 57.688}
NUM_TASKS, NUM_PULLS = 4000, 100


def brute_force_value(support: list[float], num_pulls: int) -> float:
    """The Bellman equation over the whole history of arms and rewards, with Bayes' rule."""

    @cache
    def value(weights: tuple[float, ...], left: int) -> float:
        if left == 0:
            return 0.0
        return max(value_of_pull(weights, arm, left) for arm in (0, 1))

    def value_of_pull(weights: tuple[float, ...], arm: int, left: int) -> float:
        pays = [p if arm == 0 else 1 - p for p in support]
        won = [w * pay for w, pay in zip(weights, pays, strict=True)]
        lost = [w * (1 - pay) for w, pay in zip(weights, pays, strict=True)]
        after_reward = sum(won) * (1 + value(normalised(won), left - 1)) if sum(won) else 0
        return after_reward + (sum(lost) * value(normalised(lost), left - 1) if sum(lost) else 0)

    def normalised(weights: list[float]) -> tuple[float, ...]:
        return tuple(weight / sum(weights) for weight in weights)

    return value(normalised([1.0] * len(support)), num_pulls)


@pytest.mark.parametrize("worse_arm", VALUES)
def test_known_values(worse_arm):
    player = BayesOptimalDependent(worse_arm, NUM_PULLS)
    assert player.value == pytest.approx(VALUES[worse_arm], abs=0.0005)


@pytest.mark.parametrize("worse_arm", [0.0, 0.1, 0.25, 0.5])
def test_the_value_is_that_of_brute_force(worse_arm):
    player = BayesOptimalDependent(worse_arm, 6)
    expected = brute_force_value([worse_arm, 1 - worse_arm], 6)
    assert player.value == pytest.approx(expected, abs=1e-12)


def test_the_value_of_uniform_arms_is_that_of_brute_force():
    # The mean over many evenly spaced probabilities approximates the integral.
    support = [(i + 0.5) / 500 for i in range(500)]
    player = BayesOptimalDependent(None, 4)
    assert player.value == pytest.approx(brute_force_value(support, 4), abs=1e-5)


@pytest.mark.parametrize("worse_arm", VALUES)
def test_play_earns_the_value(worse_arm):
    player = BayesOptimalDependent(worse_arm, NUM_PULLS)
    tasks = draw_tasks(DependentBandit, NUM_TASKS, seed=0, worse_arm=worse_arm)
    returns = play(player, tasks, NUM_PULLS, seed=1).sum(1)
    standard_error = returns.std().item() / NUM_TASKS**0.5
    assert returns.mean().item() == pytest.approx(player.value, abs=3 * standard_error)


def test_a_failure_speaks_for_the_other_arm():
    successes = torch.tensor([[3.0, 1.0]])
    failures = torch.tensor([[2.0, 5.0]])
    for_first, for_second = evidence(tally(successes, failures))
    assert (for_first.tolist(), for_second.tolist()) == ([8.0], [3.0])


def test_posterior_means():
    for_first, for_second = torch.tensor([0.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 2.0])
    uniform = first_arm_mean(None, for_first, for_second)
    assert uniform.tolist() == pytest.approx([1 / 2, 3 / 4, 2 / 5])
    # For 1/4 and 3/4 the odds are 3 for each pull in excess.
    medium = first_arm_mean(0.25, for_first, for_second)
    assert medium.tolist() == pytest.approx([0.5, (0.75 * 9 + 0.25) / 10, (0.75 + 0.25 * 3) / 4])


def test_posterior_means_at_the_edges():
    for_first, for_second = torch.tensor([0.0, 500.0, 0.0]), torch.tensor([0.0, 0.0, 500.0])
    for worse_arm in (0.0, 0.1, 0.4):
        mean = first_arm_mean(worse_arm, for_first, for_second)
        assert mean.tolist() == pytest.approx([0.5, 1 - worse_arm, worse_arm])


@pytest.mark.parametrize(
    ("worse_arm", "expected"),
    [(None, 0.875), (0.25, 0.9), (0.1, 81 / 82)],  # P(Beta(3, 1) > 1/2) = 7/8
)
def test_thompson_pulls_an_arm_as_often_as_it_is_better(worse_arm, expected):
    # The second arm has failed twice, which is evidence for the first.
    failures = torch.tensor([[0.0, 2.0]]).expand(NUM_TASKS * 10, 2)
    player = ThompsonSamplingDependent(worse_arm)
    arms = player.choose(tally(torch.zeros_like(failures), failures, 2), failures, seeded(0))
    assert (arms == 0).float().mean().item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("worse_arm", VALUES)
def test_who_knows_more_earns_more(worse_arm):
    tasks = draw_tasks(DependentBandit, NUM_TASKS, seed=3, worse_arm=worse_arm)
    players = DependentBandit(1, worse_arm=worse_arm).players(NUM_PULLS)
    returns = {
        name: play(player, tasks, NUM_PULLS, seed=4).sum(1) for name, player in players.items()
    }
    means = {name: total.mean().item() for name, total in returns.items()}
    assert list(means)[-1] == "bayes_optimal"
    assert means["random"] == pytest.approx(50, abs=0.4)
    assert means["bayes_optimal"] > means["thompson"] > means["thompson_independent"]
    for name in ("greedy_independent", "ucb1_independent", "gittins_independent"):
        excess = returns[name] - returns["bayes_optimal"]
        assert excess.mean().item() < 3 * excess.std().item() / NUM_TASKS**0.5
        assert means[name] > means["random"] + 3
