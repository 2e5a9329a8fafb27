"""The exact optimum compared to brute force, known values and its own play."""

from functools import cache

import pytest
import torch

from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.arm_multiset_program import ArmMultisetProgram
from rl2_lightning.families.bandits.bayes_optimal import BayesOptimal
from rl2_lightning.families.bandits.gittins import GittinsIndex
from rl2_lightning.families.bandits.two_arm_program import TwoArmProgram
from tests.families.bandits import play, random_bandits, tally


def brute_force_value(num_arms: int, num_pulls: int) -> float:
    """The Bellman equation over the counts of all arms in order, no symmetry used."""

    @cache
    def value(counts: tuple[tuple[int, int], ...], left: int) -> float:
        if left == 0:
            return 0.0
        return max(value_of_pull(counts, arm, left) for arm in range(num_arms))

    def value_of_pull(counts: tuple[tuple[int, int], ...], arm: int, left: int) -> float:
        successes, failures = counts[arm]
        mean = (successes + 1) / (successes + failures + 2)
        won = (*counts[:arm], (successes + 1, failures), *counts[arm + 1 :])
        lost = (*counts[:arm], (successes, failures + 1), *counts[arm + 1 :])
        return mean * (1 + value(won, left - 1)) + (1 - mean) * value(lost, left - 1)

    return value(((0, 0),) * num_arms, num_pulls)


@pytest.mark.parametrize(
    ("num_arms", "num_pulls"), [(1, 3), (2, 1), (2, 3), (3, 4), (4, 6), (5, 3)]
)
def test_the_multiset_program_is_brute_force(num_arms, num_pulls):
    program = ArmMultisetProgram(num_arms, num_pulls)
    assert program.value == pytest.approx(brute_force_value(num_arms, num_pulls), abs=1e-12)


@pytest.mark.parametrize("num_pulls", [1, 3, 8])
def test_the_two_arm_program_is_brute_force(num_pulls):
    assert TwoArmProgram(num_pulls).value == pytest.approx(
        brute_force_value(2, num_pulls), abs=1e-12
    )


@pytest.mark.parametrize(
    ("num_arms", "num_pulls", "value"),
    [(5, 10, 6.660), (10, 10, 6.714), (50, 10, 6.714), (2, 100, 64.918)],
)
def test_known_values(num_arms, num_pulls, value):
    assert BayesOptimal(num_arms, num_pulls).value == pytest.approx(value, abs=0.0005)


@pytest.mark.parametrize(
    ("num_arms", "num_pulls"), [(2, 10), (5, 10), (10, 10), (50, 10), (4, 16), (2, 100)]
)
def test_play_earns_the_value(num_arms, num_pulls):
    player = BayesOptimal(num_arms, num_pulls)
    returns = play(player, random_bandits(20_000, num_arms, seed=0), num_pulls, seed=1).sum(1)
    standard_error = returns.std().item() / len(returns) ** 0.5
    assert returns.mean().item() == pytest.approx(player.value, abs=3 * standard_error)


@pytest.mark.parametrize(("num_arms", "num_pulls"), [(2, 10), (5, 10), (10, 10), (2, 100)])
def test_gittins_is_never_better(num_arms, num_pulls):
    tasks = random_bandits(20_000, num_arms, seed=2)
    optimal = play(BayesOptimal(num_arms, num_pulls), tasks, num_pulls, seed=3).sum(1)
    gittins = play(GittinsIndex(num_arms, num_pulls), tasks, num_pulls, seed=3).sum(1)
    excess = gittins - optimal
    assert excess.mean().item() < 3 * excess.std().item() / len(excess) ** 0.5
    # But it is close to the optimum, which justifies it as reference where no program is small.
    assert gittins.mean() > 0.99 * optimal.mean()


def test_both_programs_play_the_same_two_arms():
    seen = tally(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 3)
    multiset, two_arms = ArmMultisetProgram(2, 8), TwoArmProgram(8)
    assert multiset.value == pytest.approx(two_arms.value, abs=1e-12)
    assert multiset.best_arm(seen).tolist() == [0]
    assert two_arms.best_arm(seen).tolist() == [0]


def test_a_large_program_is_refused():
    with pytest.raises(UserError, match=r"num_arms=5, num_pulls=100.*GittinsIndex"):
        BayesOptimal(5, 100)
