"""Each player values actions as its formula says."""

import math

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.oracles import tabular_policies
from rl2_lightning.oracles.tabular_mdp import Episode
from rl2_lightning.oracles.tabular_policies import (
    UCRL2,
    BayesianExplorationBonus,
    EpsilonGreedyTabular,
    OptimalTabular,
    PosteriorSampling,
    RandomTabular,
)
from rl2_lightning.oracles.tabular_posterior import Model, Posterior, Prior
from rl2_lightning.oracles.value_iteration import extended_value_iteration, value_iteration
from tests.oracles.draws import mdps, random_mdps, seeded

HORIZON = 6
PRIOR = Prior(mean_reward=0.3, reward_precision=2.0, concentration=1.0)


@pytest.fixture
def posterior():
    """What was seen of 20 MDPs of 3 states and 2 actions in 15 steps at random."""
    belief = Posterior(PRIOR, torch.empty(20, 3, 2))
    states = torch.randint(3, (15, 20), generator=seeded(0))
    actions = torch.randint(2, (15, 20), generator=seeded(1))
    belief.observe(Episode(states, actions, torch.randn(15, 20, generator=seeded(2))))
    return belief


def assert_same(values: torch.Tensor, expected: torch.Tensor) -> None:
    assert values.shape == (HORIZON, 20, 3, 2)
    torch.testing.assert_close(values, expected)


def test_random_takes_all_actions_alike():
    tasks = random_mdps(4000, seed=0)
    returns = RandomTabular(10).play(tasks, 4, seeded(1))
    # The mean reward of 1 in each of 10 steps; std about 4 for an episode in an MDP.
    assert returns.mean().item() == pytest.approx(10, abs=0.25)
    belief = Posterior(Prior(), torch.empty(20, 3, 2))
    values = RandomTabular(HORIZON).plan(belief, 0, seeded(1))
    assert_same(values, torch.zeros(HORIZON, 20, 3, 2))


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_greedy_plans_in_the_expected_mdp(posterior, epsilon):
    player = EpsilonGreedyTabular(HORIZON, PRIOR, epsilon)
    expected = value_iteration(posterior.expected_model(), HORIZON)
    assert_same(player.plan(posterior, 3, seeded(0)), expected)


def test_epsilon_is_the_share_of_random_actions_in_play():
    # Only action 0 of the only state pays; greedy play soon knows.
    tasks = mdps(torch.tensor([[[100.0, 0, 0, 0]]]).repeat(2000, 1, 1), torch.ones(2000, 1, 4, 1))
    returns = EpsilonGreedyTabular(1, Prior(), 0.4).play(tasks, 40, seeded(0))
    share = (returns[:, 30:] > 50).float().mean().item()
    assert share == pytest.approx(0.6 + 0.4 / 4, abs=0.015)


def test_psrl_plans_in_one_sample(posterior):
    expected = value_iteration(posterior.sample_model(seeded(5)), HORIZON)
    assert_same(PosteriorSampling(HORIZON, PRIOR).plan(posterior, 3, seeded(5)), expected)


def test_opsrl_takes_the_highest_value_among_samples(posterior):
    generator = seeded(5)
    samples = [value_iteration(posterior.sample_model(generator), HORIZON) for _ in range(4)]
    expected = torch.stack(samples).amax(0)
    assert_same(PosteriorSampling(HORIZON, PRIOR, 4).plan(posterior, 3, seeded(5)), expected)
    assert (expected > samples[0]).any()


def test_ucrl2_follows_its_formula(posterior):
    # Three states, two actions, episode 8 from 1, delta 0.05.
    spread = 4 * math.log(2 * 3 * 2 * 9 / 0.05)
    rewards, transitions = posterior.expected_model()
    visits = posterior.visits.clamp_min(1)
    followed = posterior.transitions.sum(-1).clamp_min(1)
    assert (posterior.visits == 0).any()
    expected = extended_value_iteration(
        Model(rewards + 0.2 * (spread / visits).sqrt(), transitions),
        0.2 * (3 * spread / followed).sqrt(),
        HORIZON,
    )
    assert_same(UCRL2(HORIZON, PRIOR, 0.2).plan(posterior, 7, seeded(0)), expected)


def test_beb_follows_its_formula(posterior):
    rewards, transitions = posterior.expected_model()
    beta = 2 * HORIZON**2 * 0.01
    expected = value_iteration(
        Model(rewards + 1 / (2 + posterior.visits + 1), transitions),
        HORIZON,
        beta * HORIZON / (1 + 3 + posterior.transitions.sum(-1)),
    )
    player = BayesianExplorationBonus(HORIZON, PRIOR, 0.01)
    assert_same(player.plan(posterior, 7, seeded(0)), expected)


def test_players_plan_once_an_episode_with_all_that_they_saw(monkeypatch):
    plans = []

    class Recorder(RandomTabular):
        def plan(self, posterior, episode, generator):
            plans.append((episode, posterior.visits.sum(), posterior.transitions.sum()))
            return super().plan(posterior, episode, generator)

    Recorder(HORIZON).play(random_mdps(7, seed=0), 3, seeded(0))
    # The end of each episode's last transition is not seen.
    assert plans == [(0, 0, 0), (1, 7 * 6, 7 * 5), (2, 7 * 12, 7 * 10)]


def test_the_optimum_earns_its_value():
    tasks = random_mdps(500, seed=1)
    model = Model(tasks[keys.MEAN_REWARDS], tasks[keys.TRANSITION_PROBABILITIES])
    value = value_iteration(model, 10)[0, :, 0].amax(-1)
    excess = OptimalTabular(10).play(tasks, 100, seeded(2)).mean(1) - value
    assert excess.mean().item() == pytest.approx(0, abs=3 * excess.std().item() / 500**0.5)


def test_the_optimum_knows_the_mdp(monkeypatch):
    monkeypatch.setattr(tabular_policies, "Posterior", None)
    # State 0 pays little now; only action 1 leads to where 5 is paid.
    rewards = torch.tensor([[1.0, 0.0], [5.0, 5.0]]).expand(50, 2, 2)
    transitions = torch.eye(2)[torch.tensor([[0, 1], [1, 1]])].expand(50, 2, 2, 2)
    returns = OptimalTabular(3).play(mdps(rewards, transitions), 20, seeded(3))
    assert returns.mean().item() == pytest.approx(10, abs=0.2)
