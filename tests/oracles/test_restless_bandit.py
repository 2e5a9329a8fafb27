"""Players of restless bandits: the filter's belief by hand and by simulation, and their play."""

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.oracles.bandit_policies import Greedy
from rl2_lightning.oracles.dependent_bandit import BayesOptimalDependent, DependentPrior
from rl2_lightning.oracles.restless_bandit import (
    NUM_CELLS,
    DriftFilter,
    DriftLaw,
    Stationary,
    drift,
    drift_matrix,
    restless_bandit_oracles,
)
from tests.oracles.draws import seeded

LAW = DriftLaw(0.02, 0.1)
NUM_TASKS, NUM_PULLS = 4000, 100


@pytest.fixture(params=restless_bandit_oracles(LAW, NUM_PULLS))
def oracle(request):
    return restless_bandit_oracles(LAW, NUM_PULLS)[request.param]


def test_returns_are_rewards_of_single_pulls(oracle):
    tasks = LAW.sample(20, seeded(0))
    before = tasks.clone()
    # Anything that is created on another device than the tasks' cannot meet their tensors.
    with torch.device("meta"):
        returns = oracle.play(tasks, NUM_PULLS, seeded(1))
    assert returns.shape == (20, NUM_PULLS)
    assert returns.dtype == torch.float32
    assert set(returns.unique().tolist()) == {0.0, 1.0}
    assert (tasks == before).all()
    assert torch.equal(oracle.play(tasks, NUM_PULLS, seeded(1)), returns)
    assert not torch.equal(oracle.play(tasks, NUM_PULLS, seeded(2)), returns)


def test_stationary_players_count():
    player = Stationary(Greedy)
    memory = player.start(torch.zeros(3, 1))
    memory = player.learn(memory, torch.tensor([0, 1, 1]), torch.tensor([1.0, 1.0, 0.0]))
    memory = player.learn(memory, torch.tensor([0, 0, 1]), torch.tensor([0.0, 1.0, 0.0]))
    assert memory[:, 0].tolist() == [[1, 0], [1, 1], [0, 0]]  # successes
    assert memory[:, 1].tolist() == [[1, 0], [0, 0], [0, 2]]  # failures


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
    player = DriftFilter(DriftLaw(0.0, 0.0))
    memory = player.start(torch.zeros(2, 1))
    for arm, reward in [(0, 1.0), (1, 0.0), (0, 0.0), (1, 0.0)]:
        memory = player.learn(memory, torch.tensor([arm] * 2), torch.tensor([reward] * 2))
    cells = (torch.arange(NUM_CELLS) + 0.5) / NUM_CELLS
    mean = (memory.sum(1) * cells).sum(1)
    # Three pulls spoke for the first arm, one against it: Beta(4, 2).
    assert mean.tolist() == pytest.approx([2 / 3] * 2, abs=1e-3)


def test_without_drift_the_filter_earns_the_optimum_of_stationary_arms():
    law = DriftLaw(0.0, 0.0)
    returns = DriftFilter(law).play(law.sample(NUM_TASKS, seeded(2)), NUM_PULLS, seeded(3)).sum(1)
    optimum = BayesOptimalDependent(DependentPrior(None), NUM_PULLS).value
    standard_error = returns.std().item() / NUM_TASKS**0.5
    assert returns.mean().item() == pytest.approx(optimum, abs=3 * standard_error)


def test_the_filter_finds_out_how_fast_the_arms_drift():
    player = DriftFilter(LAW)
    tasks = LAW.sample(500, seeded(4))
    generator = seeded(5)
    probability, memory = tasks[keys.FIRST_ARM_PROBABILITY], player.start(torch.zeros(500, 1))
    arm = torch.zeros(500, dtype=torch.int64)
    for _ in range(200):
        reward = torch.bernoulli(probability, generator=generator).squeeze(1)
        memory = player.learn(memory, arm, reward)
        probability = drift(probability, tasks[keys.VOLATILITY], generator)
    believed = memory.sum(2)[:, 1]  # the probability that the volatility is high
    is_high = tasks[keys.VOLATILITY].squeeze(1) > 0.05
    assert believed[is_high].mean() > believed[~is_high].mean() + 0.2
    # And the belief is right on average.
    assert believed.mean().item() == pytest.approx(is_high.float().mean().item(), abs=0.05)


def test_who_knows_the_drift_earns_more():
    tasks = LAW.sample(NUM_TASKS, seeded(6))
    oracles = restless_bandit_oracles(LAW, NUM_PULLS)
    means = {
        name: oracle.play(tasks, NUM_PULLS, seeded(7)).sum(1).mean().item()
        for name, oracle in oracles.items()
    }
    assert list(means)[-1] == "drift_filter"
    assert means["random"] == pytest.approx(50, abs=0.5)
    for name in ("thompson_stationary", "ucb1_stationary"):
        assert means["random"] + 5 < means[name] < means["drift_filter"] - 2
