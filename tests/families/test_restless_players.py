"""Players of restless bandits: the filter's belief by hand and by simulation, and their play."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.families.dependent_bandit import BayesOptimalDependent
from rl2_lightning.families.restless_bandit import (
    FIRST_ARM_PROBABILITY,
    NUM_CELLS,
    VOLATILITY,
    DriftFilter,
    RestlessBandit,
    drift,
    drift_matrix,
)
from tests.families.bandits import after, draw_tasks, play
from tests.families.draws import seeded

NUM_TASKS, NUM_PULLS = 4000, 100
PLAYERS = RestlessBandit(1).players(NUM_PULLS)


def play_restless(player, tasks: TensorDict, num_pulls: int, seed: int) -> torch.Tensor:
    return play(player, tasks, num_pulls, seed, RestlessBandit)


@pytest.mark.parametrize("player", PLAYERS.values(), ids=PLAYERS)
def test_returns_are_rewards_of_single_pulls(player):
    tasks = draw_tasks(RestlessBandit, 20, seed=0)
    before = tasks.clone()
    # Tensors created on another device than the tasks' would raise an error.
    with torch.device("meta"):
        returns = play_restless(player, tasks, NUM_PULLS, seed=1)
    assert returns.shape == (20, NUM_PULLS)
    assert returns.dtype == torch.float32
    assert set(returns.unique().tolist()) == {0.0, 1.0}
    assert (tasks == before).all()
    assert torch.equal(play_restless(player, tasks, NUM_PULLS, seed=1), returns)
    assert not torch.equal(play_restless(player, tasks, NUM_PULLS, seed=2), returns)


@pytest.mark.parametrize("volatility", [0.02, 0.1, 0.7])
def test_the_matrix_is_the_drift(volatility):
    matrix = drift_matrix(volatility, 20)
    torch.testing.assert_close(matrix.sum(1), torch.ones(20, dtype=torch.float64))
    # A uniform p stays uniform.
    torch.testing.assert_close(
        matrix.sum(0), torch.ones(20, dtype=torch.float64), atol=1e-6, rtol=0
    )
    for cell in (0, 7, 19):
        middle = torch.full((100_000, 1), (cell + 0.5) / 20)
        moved = drift(middle, torch.full_like(middle, volatility), seeded(cell))
        shares = torch.histc(moved, 20, 0, 1).double() / len(moved)
        torch.testing.assert_close(matrix[cell], shares, atol=0.007, rtol=0)


def test_without_drift_the_filter_is_the_posterior_of_stationary_arms():
    player = DriftFilter(0.0, 0.0)
    memory = player.start(TensorDict(batch_size=[2]))
    for arm, reward in [(0, 1.0), (1, 0.0), (0, 0.0), (1, 0.0)]:
        inputs = after(torch.tensor([arm] * 2), torch.tensor([reward] * 2))
        memory = player.learn(memory, torch.ones(2, 1), inputs)
    cells = (torch.arange(NUM_CELLS) + 0.5) / NUM_CELLS
    mean = (memory.sum(1) * cells).sum(1)
    # Three pulls in favour of the first arm, one against it: Beta(4, 2).
    assert mean.tolist() == pytest.approx([2 / 3] * 2, abs=1e-3)


def test_without_drift_the_filter_earns_the_optimum_of_stationary_arms():
    tasks = draw_tasks(RestlessBandit, NUM_TASKS, seed=2, low_volatility=0.0, high_volatility=0.0)
    returns = play_restless(DriftFilter(0.0, 0.0), tasks, NUM_PULLS, seed=3).sum(1)
    optimum = BayesOptimalDependent(None, NUM_PULLS).value
    standard_error = returns.std().item() / NUM_TASKS**0.5
    assert returns.mean().item() == pytest.approx(optimum, abs=3 * standard_error)


def test_the_filter_finds_out_how_fast_the_arms_drift():
    player = DriftFilter(0.02, 0.1)
    tasks = draw_tasks(RestlessBandit, 500, seed=4)
    generator = seeded(5)
    probability, memory = tasks[FIRST_ARM_PROBABILITY], player.start(tasks.select())
    arm = torch.zeros(500, dtype=torch.int64)
    for _ in range(200):
        reward = torch.bernoulli(probability, generator=generator).squeeze(1)
        memory = player.learn(memory, probability, after(arm, reward))
        probability = drift(probability, tasks[VOLATILITY], generator)
    believed = memory.sum(2)[:, 1]  # the probability that the volatility is high
    is_high = tasks[VOLATILITY].squeeze(1) > 0.05
    assert believed[is_high].mean() > believed[~is_high].mean() + 0.2
    # The belief is correct on average.
    assert believed.mean().item() == pytest.approx(is_high.float().mean().item(), abs=0.05)


def test_who_knows_the_drift_earns_more():
    tasks = draw_tasks(RestlessBandit, NUM_TASKS, seed=6)
    means = {
        name: play_restless(player, tasks, NUM_PULLS, seed=7).sum(1).mean().item()
        for name, player in PLAYERS.items()
    }
    assert list(means)[-1] == "drift_filter"
    assert means["random"] == pytest.approx(50, abs=0.5)
    for name in ("thompson_stationary", "ucb1_stationary"):
        assert means["random"] + 5 < means[name] < means["drift_filter"] - 2
