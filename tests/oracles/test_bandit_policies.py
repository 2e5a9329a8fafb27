"""Each rule picks the arm that its formula says."""

import math

import pytest
import torch

from rl2_lightning.oracles import bandit_policies
from rl2_lightning.oracles.bandit_policies import (
    UCB1,
    EpsilonGreedy,
    Greedy,
    OptimisticThompsonSampling,
    Random,
    ThompsonSampling,
)
from tests.oracles.draws import random_bandits, seeded


def random_counts(num_tasks: int, num_arms: int):
    generator = seeded(0)
    shape = (num_tasks, num_arms)
    return (torch.randint(0, 9, shape, generator=generator).float() for _ in range(2))


def test_random_pulls_every_arm_alike():
    counts = torch.zeros(40_000, 4)
    arms = Random().choose(counts, counts, 0, seeded(0))
    assert torch.bincount(arms, minlength=4).tolist() == pytest.approx([10_000] * 4, abs=350)


def test_greedy_takes_the_first_arm_of_the_highest_posterior_mean():
    successes = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    failures = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    # Means: 1/2 2/3 4/6, 2/5 1/2 1/3, 1/3 1/3 1/2.
    assert Greedy().choose(successes, failures, 4, seeded(0)).tolist() == [1, 1, 2]


def test_epsilon_is_the_share_of_random_pulls():
    successes = torch.zeros(40_000, 4)
    successes[:, 2] = 1
    arms = EpsilonGreedy(0.4).choose(successes, torch.zeros_like(successes), 1, seeded(0))
    counts = torch.bincount(arms, minlength=4).tolist()
    assert counts == pytest.approx([4000, 4000, 28_000, 4000], abs=350)


def test_no_epsilon_is_greedy():
    successes, failures = random_counts(100, 5)
    expected = Greedy().choose(successes, failures, 9, seeded(0))
    assert torch.equal(EpsilonGreedy(0.0).choose(successes, failures, 9, seeded(0)), expected)


def test_ucb1_follows_its_formula():
    successes, failures = random_counts(200, 5)
    expected = [
        max(
            range(5),
            key=lambda arm: (
                (s[arm] + 1) / (s[arm] + f[arm] + 2)
                + 0.3 * math.sqrt(2 * math.log(40) / (s[arm] + f[arm] + 2))
            ),
        )
        for s, f in zip(successes.tolist(), failures.tolist(), strict=True)
    ]
    assert UCB1(0.3).choose(successes, failures, 40, seeded(0)).tolist() == expected


def test_ucb1_with_nothing_known_pulls_the_first_arm():
    counts = torch.zeros(3, 5)
    assert UCB1(1.0).choose(counts, counts, 0, seeded(0)).tolist() == [0, 0, 0]


def test_thompson_pulls_an_arm_as_often_as_it_is_best():
    successes = torch.zeros(40_000, 2)
    successes[:, 0] = 1
    arms = ThompsonSampling().choose(successes, torch.zeros_like(successes), 1, seeded(0))
    # P(Beta(2, 1) > U) = 2/3.
    assert (arms == 0).float().mean().item() == pytest.approx(2 / 3, abs=0.01)


def test_optimistic_thompson_acts_on_the_sample_of_the_highest_density(monkeypatch):
    successes, failures = random_counts(50, 3)
    samples = torch.rand(6, 50, 3, generator=seeded(1))
    queue = iter(samples)
    monkeypatch.setattr(bandit_policies, "sample_beta", lambda *_: next(queue))
    arms = OptimisticThompsonSampling(6).choose(successes, failures, 5, seeded(0))
    density = torch.distributions.Beta(successes + 1, failures + 1).log_prob(samples).sum(2)
    assert torch.equal(arms, samples[density.argmax(0), torch.arange(50)].argmax(1))


def test_one_optimistic_sample_is_thompson_sampling():
    tasks = random_bandits(500, 5, seed=0)
    optimistic = OptimisticThompsonSampling(1).play(tasks, 10, seeded(1))
    assert torch.equal(optimistic, ThompsonSampling().play(tasks, 10, seeded(1)))
