"""Players of the informative bandit: the optimum by brute force, and returns by hand."""

from functools import cache

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.families.informative_bandit import (
    TARGET_ARM,
    BayesOptimalInformative,
    InformativeBandit,
    ThompsonSamplingInformative,
)
from tests.families.bandits import after, draw_tasks, play

NUM_PULLS = 5
PLAYERS = InformativeBandit(1).players(NUM_PULLS)


def play_informative(player, tasks: TensorDict, num_pulls: int, seed: int) -> torch.Tensor:
    return play(player, tasks, num_pulls, seed, InformativeBandit)


def targets(num_tasks: int, seed: int) -> TensorDict:
    return draw_tasks(InformativeBandit, num_tasks, seed)


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
    value = BayesOptimalInformative(num_pulls).value
    assert value == pytest.approx(brute_force_value(num_pulls), abs=1e-12)


def test_the_published_trial():
    assert BayesOptimalInformative(5).value == pytest.approx(20.55)


@pytest.mark.parametrize("num_pulls", [1, 2, 5])
def test_the_optimum_earns_its_value(num_pulls):
    player = BayesOptimalInformative(num_pulls)
    returns = play_informative(player, targets(40_000, seed=0), num_pulls, seed=1).sum(1)
    standard_error = returns.std().item() / len(returns) ** 0.5
    assert returns.mean().item() == pytest.approx(player.value, abs=4 * standard_error)


def test_the_optimum_asks_and_then_pulls_the_target():
    tasks = TensorDict({TARGET_ARM: torch.eye(10)}, [10])
    returns = play_informative(PLAYERS["bayes_optimal"], tasks, NUM_PULLS, seed=0)
    told = (torch.arange(10) + 1) / 10
    torch.testing.assert_close(returns[:, 0], told)
    assert (returns[:, 1:] == 5).all()


def test_thompson_tries_arm_after_arm():
    returns = play_informative(PLAYERS["thompson"], targets(40_000, seed=1), NUM_PULLS, seed=2)
    assert set(returns.unique().tolist()) == {1.0, 5.0}
    # Each pull finds the target in a tenth of the trials, and it is pulled ever after.
    assert (returns == 5).float().mean(0).tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5], abs=0.01
    )
    assert (returns.diff(dim=1) >= 0).all()


def test_random_play():
    returns = play_informative(PLAYERS["random"], targets(40_000, seed=3), NUM_PULLS, seed=4)
    assert returns.mean().item() == pytest.approx((5 + 9 + 0.55) / 11, abs=0.02)


def test_what_a_pull_leaves_possible():
    player = ThompsonSamplingInformative()
    memory = player.start(TensorDict(batch_size=[3]))
    # The fourth arm is the target.
    inputs = after(torch.tensor([10, 3, 7]), torch.tensor([0.4, 5.0, 1.0]))
    left = player.learn(memory, torch.ones(3, 1), inputs).possible
    assert left[:2].nonzero().tolist() == [[0, 3], [1, 3]]
    assert (~left[2]).nonzero().flatten().tolist() == [7]


def test_what_every_pull_of_every_target_leaves_possible():
    player = ThompsonSamplingInformative()
    tasks = TensorDict({TARGET_ARM: torch.eye(10)}, [10])
    env = InformativeBandit(10)
    env.set_tasks(tasks, torch.ones(10, 1, dtype=torch.bool))
    for arm in range(11):
        action = torch.full((10,), arm)
        inputs = after(action, env.expected_reward(action).squeeze(1))
        left = player.learn(player.start(tasks.select()), torch.ones(10, 1), inputs).possible
        if arm == 10:
            assert left.tolist() == torch.eye(10, dtype=torch.bool).tolist()
        else:
            assert left.sum(1).tolist() == [1 if target == arm else 9 for target in range(10)]
            assert left.diagonal().all()


@pytest.mark.parametrize("name", PLAYERS)
def test_play_is_seeded_and_stays_on_its_device(name):
    player = PLAYERS[name]
    tasks = targets(200, seed=5)
    before = tasks.clone()
    # Tensors created on another device than the tasks' would raise an error.
    with torch.device("meta"):
        returns = play_informative(player, tasks, NUM_PULLS, seed=6)
    assert returns.shape == (200, NUM_PULLS)
    assert returns.dtype == torch.float32
    assert (tasks == before).all()
    assert torch.equal(play_informative(player, tasks, NUM_PULLS, seed=6), returns)
    # The optimum only draws an arm that it does not use.
    differs = not torch.equal(play_informative(player, tasks, NUM_PULLS, seed=7), returns)
    assert differs is (name != "bayes_optimal")
