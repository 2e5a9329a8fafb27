"""Each player's action values follow its formula."""

import math

import pytest
import torch

from rl2_lightning.families.tabular_mdp import TabularMDP
from rl2_lightning.families.tabular_mdp.players import (
    UCRL2,
    BayesianExplorationBonus,
    EpsilonGreedy,
    Optimal,
    PosteriorSampling,
    Sizes,
    TabularPlayer,
    best_actions,
)
from rl2_lightning.families.tabular_mdp.posterior import Model, Posterior, Prior
from rl2_lightning.families.tabular_mdp.value_iteration import (
    extended_value_iteration,
    value_iteration,
)
from tests.families.draws import seeded
from tests.families.tabular_mdp.draws import mdps, model_of, random_mdps, returns_of

HORIZON = 6
SIZES = Sizes(3, 2, HORIZON)
PRIOR = Prior(mean_reward=0.3, reward_precision=2.0, concentration=1.0)


@pytest.fixture
def posterior():
    """The posterior of 20 MDPs with 3 states and 2 actions after 15 random steps."""
    belief = Posterior(PRIOR, (20, 3, 2))
    states = torch.randint(3, (16, 20), generator=seeded(0))
    actions = torch.randint(2, (15, 20), generator=seeded(1))
    rewards = torch.randn(15, 20, generator=seeded(2))
    for step in range(15):
        belief.observe(states[step], actions[step], rewards[step], states[step + 1])
    return belief


def assert_same(values: torch.Tensor, expected: torch.Tensor) -> None:
    assert values.shape == (HORIZON, 20, 3, 2)
    torch.testing.assert_close(values, expected)


def test_random_takes_all_actions_alike():
    returns = returns_of(TabularMDP(1).players(4)["random"], random_mdps(4000, seed=0), 4, seed=1)
    # The mean reward of 1 in each of 10 steps; std about 4 for an episode in an MDP.
    assert returns.mean().item() == pytest.approx(10, abs=0.25)


def test_each_task_takes_the_best_action_of_its_state():
    values = torch.tensor([[[0.0, 2, 1], [0, 1, 2]], [[3, 2, 1], [4, 5, 6]]])
    for state, expected in (([0, 0], [1, 0]), ([1, 1], [2, 2]), ([1, 0], [2, 0])):
        assert best_actions(values, torch.tensor(state), seeded(0)).tolist() == expected


def count_actions(values: list[float], epsilon: float = 0.0) -> list[int]:
    expanded = torch.tensor(values).expand(40_000, 1, 4)
    state = torch.zeros(40_000, dtype=torch.int64)
    return best_actions(expanded, state, seeded(0), epsilon).bincount(minlength=4).tolist()


def test_equal_values_are_chosen_alike():
    counts = count_actions([0.0, 2.0, 1.0, 2.0])
    assert counts[0] == counts[2] == 0
    assert counts[1::2] == pytest.approx([20_000] * 2, abs=400)


def test_epsilon_is_the_share_of_random_actions():
    counts = count_actions([0.0, 0.0, 1.0, 0.0], epsilon=0.4)
    assert counts == pytest.approx([4000, 4000, 28_000, 4000], abs=350)


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_greedy_plans_in_the_expected_mdp(posterior, epsilon):
    player = EpsilonGreedy(SIZES, PRIOR, epsilon)
    expected = value_iteration(posterior.expected_model(), HORIZON)
    assert_same(player.plan(posterior, 3, seeded(0)), expected)


def test_epsilon_is_the_share_of_random_actions_in_play():
    # Only action 0 of the only state pays; greedy play soon knows.
    tasks = mdps(torch.tensor([[[100.0, 0, 0, 0]]]).repeat(2000, 1, 1), torch.ones(2000, 1, 4, 1))
    returns = returns_of(EpsilonGreedy(Sizes(1, 4, 1), Prior(), 0.4), tasks, 40, horizon=1)
    share = (returns[:, 30:] > 50).float().mean().item()
    assert share == pytest.approx(0.6 + 0.4 / 4, abs=0.015)


def test_psrl_plans_in_one_sample(posterior):
    expected = value_iteration(posterior.sample_model(seeded(5)), HORIZON)
    assert_same(PosteriorSampling(SIZES, PRIOR).plan(posterior, 3, seeded(5)), expected)


def test_opsrl_takes_the_highest_value_among_samples(posterior):
    generator = seeded(5)
    samples = [value_iteration(posterior.sample_model(generator), HORIZON) for _ in range(4)]
    expected = torch.stack(samples).amax(0)
    assert_same(PosteriorSampling(SIZES, PRIOR, 4).plan(posterior, 3, seeded(5)), expected)
    assert (expected > samples[0]).any()


def test_ucrl2_follows_its_formula(posterior):
    # Three states, two actions, episode 8 from 1, delta 0.05.
    spread = 4 * math.log(2 * 3 * 2 * 9 / 0.05)
    rewards, transitions = posterior.expected_model()
    visits = posterior.visits.clamp_min(1)
    followed = posterior.transitions.sum(0).clamp_min(1)
    assert (posterior.visits == 0).any()
    expected = extended_value_iteration(
        Model(rewards + 0.2 * (spread / visits).sqrt(), transitions),
        0.2 * (3 * spread / followed).sqrt(),
        HORIZON,
    )
    assert_same(UCRL2(SIZES, PRIOR, 0.2).plan(posterior, 7, seeded(0)), expected)


def test_beb_follows_its_formula(posterior):
    rewards, transitions = posterior.expected_model()
    beta = 2 * HORIZON**2 * 0.01
    expected = value_iteration(
        Model(rewards + 1 / (2 + posterior.visits + 1), transitions),
        HORIZON,
        beta * HORIZON / (1 + 3 + posterior.transitions.sum(0)),
    )
    player = BayesianExplorationBonus(SIZES, PRIOR, 0.01)
    assert_same(player.plan(posterior, 7, seeded(0)), expected)


class Scripted(TabularPlayer):
    """Follows a plan, and records the posterior's counts at each request for one."""

    def __init__(self, sizes: Sizes, values: torch.Tensor) -> None:
        super().__init__(sizes, Prior())
        self.values = values
        self.asked = []

    def plan(self, posterior, episode, generator):
        seen = (posterior.visits.clone(), posterior.transitions.clone())
        self.asked.append((episode, *seen))
        return self.values


def test_players_plan_once_an_episode_with_all_that_they_saw():
    player = Scripted(Sizes(10, 5, HORIZON), torch.zeros(HORIZON, 7, 10, 5))
    returns_of(player, random_mdps(7, seed=0), 3, horizon=HORIZON)
    seen = [(episode, visits.sum(), moves.sum()) for episode, visits, moves in player.asked]
    # The last transition of each episode is not observed.
    assert seen == [(0, 0, 0), (1, 7 * 6, 7 * 5), (2, 7 * 12, 7 * 10)]


def cycle(num_tasks: int):
    """MDPs of three states whose action 0 stays and action 1 steps on; they pay 100 * state."""
    following = (torch.arange(3)[:, None] + torch.arange(2)) % 3
    rewards = 100.0 * torch.arange(3)[:, None].expand(num_tasks, 3, 2)
    return mdps(rewards, torch.eye(3)[following].expand(num_tasks, 3, 2, 3))


def test_the_plan_of_each_step_and_state_is_followed_and_taken_up():
    # What to do in states 0, 1, 2 at each of four steps: 0 to 1 to 2, and stay.
    plan = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    values = torch.eye(2)[plan].unsqueeze(1).expand(4, 5, 3, 2)
    player = Scripted(Sizes(3, 2, 4), values)
    returns = returns_of(player, cycle(5), 3, horizon=4)
    assert (returns - 500).abs().max() < 10
    _, visits, transitions = player.asked[2]
    expected = torch.tensor([[0.0, 2], [0, 2], [4, 0]])
    assert torch.equal(visits, expected.expand(5, 3, 2))
    assert [transitions[s, 0, 0, 1].item() for s in range(3)] == [0, 2, 0]
    assert [transitions[s, 0, 1, 1].item() for s in range(3)] == [0, 0, 2]
    assert [transitions[s, 0, 2, 0].item() for s in range(3)] == [0, 0, 2]
    assert transitions.sum() == 5 * 6


def test_the_optimum_earns_its_value():
    tasks = random_mdps(500, seed=1)
    value = value_iteration(model_of(tasks), 10)[0, :, 0].amax(-1)
    excess = returns_of(Optimal(10), tasks, 100, seed=2).mean(1) - value
    assert excess.mean().item() == pytest.approx(0, abs=3 * excess.std().item() / 500**0.5)


def test_the_optimum_knows_the_mdp():
    # State 0 pays little now; only action 1 leads to where 5 is paid.
    rewards = torch.tensor([[1.0, 0.0], [5.0, 5.0]]).expand(50, 2, 2)
    transitions = torch.eye(2)[torch.tensor([[0, 1], [1, 1]])].expand(50, 2, 2, 2)
    returns = returns_of(Optimal(3), mdps(rewards, transitions), 20, seed=3, horizon=3)
    assert returns.mean().item() == pytest.approx(10, abs=0.2)
