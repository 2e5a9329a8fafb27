"""Posteriors of tabular MDPs compared to a literal count of observations."""

from typing import NamedTuple

import pytest
import torch

from rl2_lightning.families.tabular_mdp.posterior import Posterior, Prior
from tests.families.draws import seeded
from tests.families.tabular_mdp.draws import model_of, random_mdps

PRIOR = Prior(mean_reward=0.5, reward_precision=2.0, concentration=3.0)


class Episode(NamedTuple):
    """States `[H, B]`, actions and rewards of an episode."""

    states: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor

    def show(self, belief: Posterior) -> None:
        """Add the steps; the last transition is not observed."""
        following = [*self.states[1:], None]
        for step in zip(*self, following, strict=True):
            belief.observe(*step)


@pytest.fixture
def episodes():
    """Four episodes of five steps in three MDPs, at random."""
    generator = seeded(2)
    draws = torch.randint(2, (4, 2, 5, 3), generator=generator)
    rewards = torch.randn(4, 5, 3, generator=generator)
    return [Episode(*draw, reward) for draw, reward in zip(draws, rewards, strict=True)]


@pytest.fixture
def posterior(episodes):
    belief = Posterior(PRIOR, (3, 2, 2))
    for episode in episodes:
        episode.show(belief)
    return belief


def rewards_of(episodes: list[Episode], task: int, state: int, action: int) -> list[float]:
    return [
        e.rewards[step, task].item()
        for e in episodes
        for step in range(5)
        if (e.states[step, task], e.actions[step, task]) == (state, action)
    ]


def transitions_of(episodes: list[Episode], task: int, state: int, action: int) -> list[int]:
    """The next states of an action; the last transition is not observed."""
    return [
        e.states[step + 1, task].item()
        for e in episodes
        for step in range(4)
        if (e.states[step, task], e.actions[step, task]) == (state, action)
    ]


PLACES = [(t, s, a) for t in range(3) for s in range(2) for a in range(2)]


@pytest.mark.parametrize("place", PLACES)
def test_the_posterior_is_conjugate(posterior, episodes, place):
    rewards, following = rewards_of(episodes, *place), transitions_of(episodes, *place)
    assert rewards
    expected = posterior.expected_model()
    assert posterior.visits[place] == len(rewards)
    assert posterior.reward_precision[place] == 2 + len(rewards)
    mean = (0.5 * 2 + sum(rewards)) / (2 + len(rewards))
    assert expected.mean_rewards[place].item() == pytest.approx(mean, abs=1e-5)
    counts = [following.count(0), following.count(1)]
    assert posterior.transitions[(slice(None), *place)].tolist() == counts
    probabilities = [(3 + count) / (6 + sum(counts)) for count in counts]
    assert expected.transitions[(slice(None), *place)].tolist() == pytest.approx(probabilities)


def test_samples_spread_as_the_posterior_says():
    num_tasks = 40_000
    belief = Posterior(Prior(), (num_tasks, 2, 2))
    # Action 1 in state 0, twice: it pays 4 and leads to state 1; the last transition is not
    # observed.
    states = torch.tensor([0, 1, 0]).unsqueeze(1).expand(3, num_tasks)
    actions = torch.tensor([1, 0, 1]).unsqueeze(1).expand(3, num_tasks)
    Episode(states, actions, torch.full((3, num_tasks), 4.0)).show(belief)
    rewards, transitions = belief.sample_model(seeded(2))
    seen = rewards[:, 0, 1]
    assert seen.mean().item() == pytest.approx(3, abs=0.015)  # (1 + 4 + 4) / 3
    assert seen.var().item() == pytest.approx(1 / 3, abs=0.015)
    untouched = rewards[:, 0, 0]
    assert untouched.mean().item() == pytest.approx(1, abs=0.025)
    assert untouched.var().item() == pytest.approx(1, abs=0.04)
    torch.testing.assert_close(transitions.sum(0), torch.ones(num_tasks, 2, 2))
    assert transitions[1, :, 0, 1].mean().item() == pytest.approx(2 / 3, abs=0.01)
    assert transitions[1, :, 0, 0].mean().item() == pytest.approx(1 / 2, abs=0.01)


def test_the_default_prior_is_the_law_of_the_tasks():
    tasks = random_mdps(20_000, seed=3, num_states=3, num_actions=2)
    belief = Posterior(Prior(), (20_000, 3, 2))
    sampled = belief.sample_model(seeded(4))
    for drawn, believed, tasks_at in zip(model_of(tasks), sampled, (0, 1), strict=True):
        torch.testing.assert_close(drawn.mean(tasks_at), believed.mean(tasks_at), atol=0.04, rtol=0)
        torch.testing.assert_close(drawn.var(tasks_at), believed.var(tasks_at), atol=0.06, rtol=0)
