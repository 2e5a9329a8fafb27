"""Properties of all players of tabular MDPs."""

import pytest
import torch

from rl2_lightning.families.tabular_mdp import TabularMDP
from tests.families.tabular_mdp.draws import mdps, random_mdps, returns_of

NAMES = [
    "random",
    "greedy",
    "greedy_prior_mean_0",
    "psrl",
    "psrl_prior_mean_0",
    "epsilon_greedy",
    "opsrl",
    "ucrl2",
    "beb",
    "epsilon_greedy_prior_mean_0",
    "opsrl_prior_mean_0",
    "ucrl2_prior_mean_0",
    "beb_prior_mean_0",
    "optimal_policy",
]
WITHOUT_SAMPLES_OF_THE_POSTERIOR = [name for name in NAMES if "psrl" not in name]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NUM_EPISODES = 4


def players(num_episodes: int = NUM_EPISODES):
    return TabularMDP(1).players(num_episodes)


@pytest.fixture(params=NAMES)
def player(request):
    return players()[request.param]


def test_the_reference_comes_last():
    assert list(players()) == NAMES
    assert list(players(1000)) == NAMES


def test_nothing_is_computed_before_the_first_play(empty_cache, monkeypatch):
    monkeypatch.setattr("rl2_lightning.families.tuning.mean_returns_of_candidates", None)
    TabularMDP(1, num_states=7, num_actions=3, horizon=5).players(1000)
    assert not empty_cache.exists()


@pytest.mark.parametrize("device", DEVICES)
def test_returns_are_those_of_episodes(player, device):
    tasks = random_mdps(20, seed=0).to(device)
    # Tensors created on another device than the tasks' would raise an error.
    with torch.device("meta"):
        returns = returns_of(player, tasks, NUM_EPISODES, seed=1)
    assert returns.shape == (20, NUM_EPISODES)
    assert returns.dtype == torch.float32
    assert returns.device.type == device
    assert returns.isfinite().all()


def test_same_seed_same_play(player):
    tasks = random_mdps(100, seed=0)
    returns = returns_of(player, tasks, NUM_EPISODES, seed=1)
    assert torch.equal(returns_of(player, tasks, NUM_EPISODES, seed=1), returns)
    assert not torch.equal(returns_of(player, tasks, NUM_EPISODES, seed=2), returns)


def test_the_tasks_are_left_as_they_were(player):
    tasks = random_mdps(10, seed=0)
    before = tasks.clone()
    returns_of(player, tasks, NUM_EPISODES, seed=1)
    assert (tasks == before).all()


def test_a_shorter_trial_is_the_beginning_of_a_longer_one(player):
    tasks = random_mdps(30, seed=0)
    longer = returns_of(player, tasks, NUM_EPISODES, seed=1)
    assert torch.equal(returns_of(player, tasks, 2, seed=1), longer[:, :2])


@pytest.mark.parametrize("name", WITHOUT_SAMPLES_OF_THE_POSTERIOR)
def test_a_row_does_not_see_its_neighbours(name):
    # Rejection sampling draws a varying number of values per row, which shifts those of others.
    player = players()[name]
    tasks, others = random_mdps(40, seed=0), random_mdps(40, seed=1)
    mixed = tasks.clone()
    mixed[::2] = others[::2]
    returns = [returns_of(player, t, NUM_EPISODES, seed=2) for t in (tasks, mixed)]
    assert torch.equal(returns[0][1::2], returns[1][1::2])
    assert not torch.equal(returns[0][::2], returns[1][::2])


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("random", "optimal_policy")]
)
def test_what_pays_is_found_and_repeated(name):
    # One action pays 10, and leads to a state where another one does.
    rewards = torch.zeros(200, 10, 5)
    rewards[:, :, 3] = 10.0
    tasks = mdps(rewards, torch.full((200, 10, 5, 10), 0.1))
    returns = returns_of(players(30)[name], tasks, 30)
    assert returns[:, 0].mean() < 60
    assert returns[:, -5:].mean() > 75
