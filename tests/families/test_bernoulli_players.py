"""Properties of all players of Bernoulli bandits."""

import pytest
import torch

from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.policies import Greedy
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from tests.families.bandits import bandits, play, random_bandits
from tests.families.draws import seeded

NAMES = [
    "random",
    "greedy",
    "epsilon_greedy",
    "thompson",
    "optimistic_thompson",
    "ucb1",
    "gittins",
    "bayes_optimal",
]
WITHOUT_SAMPLES_OF_THE_POSTERIOR = [name for name in NAMES if "thompson" not in name]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NUM_ARMS, NUM_PULLS = 5, 10


def players(num_arms: int = NUM_ARMS, num_pulls: int = NUM_PULLS):
    return BernoulliBandit(1, num_arms=num_arms).players(num_pulls)


@pytest.fixture(params=NAMES)
def player(request):
    return players()[request.param]


def test_the_reference_comes_last():
    assert list(players(5, 10)) == NAMES
    assert list(players(2, 100)) == NAMES
    assert list(players(5, 100)) == NAMES[:-1]
    assert list(players(2, 500)) == NAMES[:-1]


def test_nothing_is_computed_before_the_first_play(empty_cache, monkeypatch):
    monkeypatch.setattr("rl2_lightning.families.bandits.gittins.gittins_table", None)
    monkeypatch.setattr("rl2_lightning.families.tuning.mean_returns_of_candidates", None)
    players(7, 1000)
    assert not empty_cache.exists()


@pytest.mark.parametrize("device", DEVICES)
def test_returns_are_rewards_of_single_pulls(player, device):
    tasks = random_bandits(20, NUM_ARMS, seed=0).to(device)
    # Tensors created on another device than the tasks' would raise an error.
    with torch.device("meta"):
        returns = play(player, tasks, NUM_PULLS, seed=1)
    assert returns.shape == (20, NUM_PULLS)
    assert returns.dtype == torch.float32
    assert returns.device.type == device
    assert set(returns.unique().tolist()) <= {0.0, 1.0}


def test_same_seed_same_play(player):
    tasks = random_bandits(100, NUM_ARMS, seed=0)
    returns = play(player, tasks, NUM_PULLS, seed=1)
    assert torch.equal(play(player, tasks, NUM_PULLS, seed=1), returns)
    assert not torch.equal(play(player, tasks, NUM_PULLS, seed=2), returns)


def test_the_tasks_are_left_as_they_were(player):
    tasks = random_bandits(10, NUM_ARMS, seed=0)
    before = tasks.clone()
    play(player, tasks, NUM_PULLS, seed=1)
    assert (tasks == before).all()


def test_rows_earn_what_their_own_arms_pay(player):
    probabilities = torch.rand(60, NUM_ARMS, generator=seeded(0))
    probabilities[::3], probabilities[1::3] = 0.0, 1.0
    returns = play(player, bandits(probabilities), NUM_PULLS, seed=1)
    assert (returns[::3] == 0).all()
    assert (returns[1::3] == 1).all()
    assert 0 < returns[2::3].mean() < 1


@pytest.mark.parametrize("name", WITHOUT_SAMPLES_OF_THE_POSTERIOR)
def test_a_row_does_not_see_its_neighbours(name):
    # Rejection sampling draws a varying number of values per row, which shifts those of others.
    player = players()[name]
    probabilities = torch.rand(40, NUM_ARMS, generator=seeded(0))
    other = probabilities.clone()
    other[::2] = torch.rand(20, NUM_ARMS, generator=seeded(1))
    returns = [play(player, bandits(p), NUM_PULLS, seed=2) for p in (probabilities, other)]
    assert torch.equal(returns[0][1::2], returns[1][1::2])
    assert not torch.equal(returns[0][::2], returns[1][::2])


@pytest.mark.parametrize("name", ["gittins", "bayes_optimal"])
def test_a_longer_trial_than_the_horizon_is_refused(name):
    player = players()[name]
    with pytest.raises(UserError, match=r"^pull 11 of a trial: .*made for 10 pulls"):
        play(player, random_bandits(2, NUM_ARMS, seed=0), 11, seed=0)


def test_a_rule_without_horizon_plays_any_length():
    assert play(Greedy(NUM_ARMS), random_bandits(2, NUM_ARMS, seed=0), 7, seed=0).shape == (2, 7)
