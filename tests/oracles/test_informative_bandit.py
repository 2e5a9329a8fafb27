"""Players of the informative bandit: the optimum by brute force, and returns by hand."""

from functools import cache

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.oracles.informative_bandit import (
    BayesOptimalInformative,
    consistent,
    informative_bandit_oracles,
    sample_targets,
)
from tests.oracles.draws import seeded

NUM_PULLS = 5


def brute_force_value(num_pulls: int) -> float:
    """The Bellman equation over the sets of targets that are still possible."""

    @cache
    def value(possible: frozenset[int], left: int) -> float:
        if left == 0:
            return 0.0
        return max(value_of_pull(possible, arm, left) for arm in {*possible, 11})

    def value_of_pull(possible: frozenset[int], arm: int, left: int) -> float:
        total = 0.0
        for target in possible:
            if arm == 11:
                total += target / 10 + value(frozenset([target]), left - 1)
            elif arm == target:
                total += 5 + value(frozenset([target]), left - 1)
            else:
                total += 1 + value(possible - {arm}, left - 1)
        return total / len(possible)

    return value(frozenset(range(1, 11)), num_pulls)


@pytest.mark.parametrize("num_pulls", [1, 2, 3, 4, 5, 6])
def test_the_value_is_that_of_brute_force(num_pulls):
    value = BayesOptimalInformative.value(num_pulls)
    assert value == pytest.approx(brute_force_value(num_pulls), abs=1e-12)


def test_the_published_trial():
    assert BayesOptimalInformative.value(5) == pytest.approx(20.55)


@pytest.mark.parametrize("num_pulls", [1, 2, 5])
def test_the_optimum_earns_its_value(num_pulls):
    tasks = sample_targets(40_000, seeded(0))
    returns = BayesOptimalInformative().play(tasks, num_pulls, seeded(1)).sum(1)
    standard_error = returns.std().item() / len(returns) ** 0.5
    value = BayesOptimalInformative.value(num_pulls)
    assert returns.mean().item() == pytest.approx(value, abs=4 * standard_error)


def test_the_optimum_asks_and_then_pulls_the_target():
    tasks = TensorDict({keys.TARGET_ARM: torch.eye(10)}, [10])
    returns = BayesOptimalInformative().play(tasks, NUM_PULLS, seeded(0))
    told = (torch.arange(10) + 1) / 10
    torch.testing.assert_close(returns[:, 0], told)
    assert (returns[:, 1:] == 5).all()


def test_thompson_tries_arm_after_arm():
    tasks = sample_targets(40_000, seeded(1))
    returns = informative_bandit_oracles()["thompson"].play(tasks, NUM_PULLS, seeded(2))
    assert set(returns.unique().tolist()) == {1.0, 5.0}
    # Found with each pull by a tenth, and pulled ever after.
    assert (returns == 5).float().mean(0).tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5], abs=0.01
    )
    assert (returns.diff(dim=1) >= 0).all()


def test_random_play():
    tasks = sample_targets(40_000, seeded(3))
    returns = informative_bandit_oracles()["random"].play(tasks, NUM_PULLS, seeded(4))
    assert returns.mean().item() == pytest.approx((5 + 9 + 0.55) / 11, abs=0.02)


def test_what_a_pull_leaves_possible():
    target = torch.eye(10, dtype=torch.bool)[[3, 3, 3]]
    left = consistent(target, torch.tensor([[10], [3], [7]]))
    assert left[:2].nonzero().tolist() == [[0, 3], [1, 3]]
    assert (~left[2]).nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("name", informative_bandit_oracles())
def test_play_is_seeded_and_stays_on_its_device(name):
    player = informative_bandit_oracles()[name]
    tasks = sample_targets(200, seeded(5))
    before = tasks.clone()
    # Anything that is created on another device than the tasks' cannot meet their tensors.
    with torch.device("meta"):
        returns = player.play(tasks, NUM_PULLS, seeded(6))
    assert returns.shape == (200, NUM_PULLS)
    assert returns.dtype == torch.float32
    assert (tasks == before).all()
    assert torch.equal(player.play(tasks, NUM_PULLS, seeded(6)), returns)
    # All that the optimum draws is an arm that it has no use for.
    differs = not torch.equal(player.play(tasks, NUM_PULLS, seeded(7)), returns)
    assert differs is (name != "bayes_optimal")
