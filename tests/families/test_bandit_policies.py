"""Each rule picks the arm given by its formula."""

import math

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.families.bandits import policies
from rl2_lightning.families.bandits.policies import (
    UCB1,
    BanditPlayer,
    EpsilonGreedy,
    Greedy,
    OptimisticThompsonSampling,
    Tally,
    ThompsonSampling,
)
from tests.families.bandits import after, play, random_bandits, tally
from tests.families.draws import seeded


def random_counts(num_tasks: int, num_arms: int):
    generator = seeded(0)
    shape = (num_tasks, num_arms)
    return (torch.randint(0, 9, shape, generator=generator).float() for _ in range(2))


def pick(player: BanditPlayer, seen: Tally) -> list[int]:
    return player.choose(seen, seen.pulls, seeded(0)).tolist()


def test_pulls_are_counted():
    player = Greedy(2)
    memory = start = player.start(TensorDict(batch_size=[3]))
    for arms, rewards in [([0, 1, 1], [1.0, 1.0, 0.0]), ([0, 0, 1], [0.0, 1.0, 0.5])]:
        inputs = after(torch.tensor(arms), torch.tensor(rewards))
        memory = player.learn(memory, torch.ones(3, 1), inputs)
    assert memory.pulls.tolist() == [[2, 0], [1, 1], [0, 2]]
    assert memory.totals.tolist() == [[1, 0], [1, 1], [0, 0.5]]
    assert memory.pull == 2
    assert not start.pulls.any()
    assert not start.totals.any()


def test_greedy_takes_the_first_arm_of_the_highest_posterior_mean():
    successes = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    failures = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    # Means: 1/2 2/3 4/6, 2/5 1/2 1/3, 1/3 1/3 1/2.
    assert pick(Greedy(3), tally(successes, failures, 4)) == [1, 1, 2]


def test_epsilon_is_the_share_of_random_pulls():
    successes = torch.zeros(40_000, 4)
    successes[:, 2] = 1
    seen = tally(successes, torch.zeros_like(successes), 1)
    arms = EpsilonGreedy(4, 0.4).choose(seen, successes, seeded(0))
    counts = torch.bincount(arms, minlength=4).tolist()
    assert counts == pytest.approx([4000, 4000, 28_000, 4000], abs=350)


def test_no_epsilon_is_greedy():
    seen = tally(*random_counts(100, 5), 9)
    assert pick(EpsilonGreedy(5, 0.0), seen) == pick(Greedy(5), seen)


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
    assert pick(UCB1(5, 0.3), tally(successes, failures, 40)) == expected


def test_ucb1_with_nothing_known_pulls_the_first_arm():
    counts = torch.zeros(3, 5)
    assert pick(UCB1(5, 1.0), tally(counts, counts)) == [0, 0, 0]


def test_thompson_pulls_an_arm_as_often_as_it_is_best():
    successes = torch.zeros(40_000, 2)
    successes[:, 0] = 1
    seen = tally(successes, torch.zeros_like(successes), 1)
    arms = ThompsonSampling(2).choose(seen, successes, seeded(0))
    # P(Beta(2, 1) > U) = 2/3.
    assert (arms == 0).float().mean().item() == pytest.approx(2 / 3, abs=0.01)


def test_optimistic_thompson_acts_on_the_sample_of_the_highest_density(monkeypatch):
    successes, failures = random_counts(50, 3)
    samples = torch.rand(6, 50, 3, generator=seeded(1))
    queue = iter(samples)
    monkeypatch.setattr(policies, "sample_beta", lambda *_: next(queue))
    arms = pick(OptimisticThompsonSampling(3, 6), tally(successes, failures, 5))
    density = torch.distributions.Beta(successes + 1, failures + 1).log_prob(samples).sum(2)
    assert arms == samples[density.argmax(0), torch.arange(50)].argmax(1).tolist()


def test_one_optimistic_sample_is_thompson_sampling():
    tasks = random_bandits(500, 5, seed=0)
    optimistic = play(OptimisticThompsonSampling(5, 1), tasks, 10, seed=1)
    assert torch.equal(optimistic, play(ThompsonSampling(5), tasks, 10, seed=1))
