"""Backward induction against literal recursions in float64."""

import numpy as np
import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.oracles.tabular_posterior import Model
from rl2_lightning.oracles.value_iteration import (
    expectation,
    extended_value_iteration,
    value_iteration,
)
from tests.oracles.draws import random_mdps, seeded

HORIZON = 4


@pytest.fixture
def model():
    tasks = random_mdps(30, seed=0, num_states=4, num_actions=3)
    return Model(tasks[keys.MEAN_REWARDS], tasks[keys.TRANSITION_PROBABILITIES])


def literal_values(rewards: np.ndarray, transitions: np.ndarray, bonus: np.ndarray) -> np.ndarray:
    """Q of one MDP, `[H, S, A]`, by recursion from the first step."""
    num_states, num_actions = rewards.shape

    def action_value(step: int, state: int, action: int) -> float:
        later = HORIZON - 1 - step
        expected = sum(
            transitions[state, action, following] * state_value(step + 1, following)
            for following in range(num_states)
            if later
        )
        return rewards[state, action] + bonus[state, action] * later + expected

    def state_value(step: int, state: int) -> float:
        return max(action_value(step, state, action) for action in range(num_actions))

    return np.array([
        [[action_value(h, s, a) for a in range(num_actions)] for s in range(num_states)]
        for h in range(HORIZON)
    ])  # fmt: skip


def literal_extended_values(rewards: np.ndarray, transitions: np.ndarray, slack: np.ndarray):
    """The same under optimistic transitions, with loops over states and actions."""
    transitions = transitions.copy()
    num_states, num_actions = rewards.shape
    action_values = np.zeros((HORIZON, num_states, num_actions))
    values = np.zeros(num_states)
    for step in reversed(range(HORIZON)):
        from_worst = sorted(range(num_states), key=lambda state: values[state])
        best = from_worst[-1]
        for place in np.ndindex(num_states, num_actions):
            row = transitions[place].copy()
            if row[best] + slack[place] / 2 > 1:
                row = np.eye(num_states)[best]
            else:
                row[best] += slack[place] / 2
                for worst in from_worst:
                    row[worst] = max(0, row[worst] - max(0, row.sum() - 1))
                transitions[place] = row
            action_values[(step, *place)] = rewards[place] + row @ values
        values = action_values[step].max(1)
    return action_values


def test_values_are_the_literal_recursion(model):
    values = value_iteration(model, HORIZON).double()
    assert values.shape == (HORIZON, 30, 4, 3)
    for task in range(30):
        rewards, transitions = (part[task].double().numpy() for part in model)
        expected = literal_values(rewards, transitions, np.zeros_like(rewards))
        np.testing.assert_allclose(values[:, task], expected, atol=1e-5)


def test_the_bonus_counts_for_each_step_to_go(model):
    bonus = torch.rand(30, 4, 3, generator=seeded(1))
    values = value_iteration(model, HORIZON, bonus).double()
    for task in range(30):
        parts = (part[task].double().numpy() for part in (*model, bonus))
        np.testing.assert_allclose(values[:, task], literal_values(*parts), atol=1e-5)


# Slack that moves nothing, a little, most and all of the probability.
@pytest.mark.parametrize("most", [0.0, 0.1, 0.8, 3.0])
def test_extended_values_are_the_literal_recursion(model, most):
    slack = most * torch.rand(30, 4, 3, generator=seeded(2))
    values = extended_value_iteration(model, slack, HORIZON).double()
    for task in range(30):
        parts = (part[task].double().numpy() for part in (*model, slack))
        np.testing.assert_allclose(values[:, task], literal_extended_values(*parts), atol=1e-5)


def test_optimism_grows_with_the_slack(model):
    none, some, more = (
        extended_value_iteration(model, torch.full((30, 4, 3), slack), HORIZON)
        for slack in (0.0, 0.2, 0.4)
    )
    torch.testing.assert_close(none, value_iteration(model, HORIZON))
    # In the last step all states are worth 0, and the shift of the step before may undo its own.
    assert (some[:-2] > none[:-2]).float().mean() > 0.99
    assert (more[:-2] > some[:-2]).float().mean() > 0.99


def test_alike_actions_get_the_same_bits():
    transitions = torch.full((20, 10, 5, 10), 0.1)
    values = expectation(transitions, torch.randn(20, 10, generator=seeded(3)))
    assert (values == values[:, :1, :1]).all()
    rewards = torch.zeros(20, 10, 5)
    rewards[:, 0, 0] = 1.3
    model = Model(rewards, transitions)
    slack = torch.full((20, 10, 5), 0.3)
    for played in (value_iteration(model, 10), extended_value_iteration(model, slack, 10)):
        alike = played[:, :, 1:]
        assert (alike == alike[:, :, :1, :1]).all()


def test_any_batch_shape_is_taken(model):
    several = Model(*(part.view(5, 6, *part.shape[1:]) for part in model))
    expected = value_iteration(model, HORIZON).view(HORIZON, 5, 6, 4, 3)
    assert torch.equal(value_iteration(several, HORIZON), expected)


def test_the_known_optimum():
    tasks = random_mdps(20_000, seed=4)
    model = Model(tasks[keys.MEAN_REWARDS], tasks[keys.TRANSITION_PROBABILITIES])
    value = value_iteration(model, 10)[0, :, 0].amax(-1)
    assert value.mean().item() == pytest.approx(21.78, abs=3 * 0.04)
