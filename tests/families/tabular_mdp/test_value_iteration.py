"""Backward induction compared to literal recursions in float64."""

import numpy as np
import pytest
import torch

from rl2_lightning.families.tabular_mdp.posterior import Model
from rl2_lightning.families.tabular_mdp.value_iteration import (
    extended_value_iteration,
    value_iteration,
)
from tests.families.draws import seeded
from tests.families.tabular_mdp.draws import model_of, random_mdps

HORIZON = 4


@pytest.fixture
def model():
    return model_of(random_mdps(30, seed=0, num_states=4, num_actions=3))


def parts_of(task: int, model: Model, *others: torch.Tensor) -> list[np.ndarray]:
    """The tensors of one MDP, with the next state last."""
    rewards, transitions = model
    return [part[task].double().numpy() for part in (rewards, transitions.movedim(0, -1), *others)]


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
        rewards, transitions = parts_of(task, model)
        expected = literal_values(rewards, transitions, np.zeros_like(rewards))
        np.testing.assert_allclose(values[:, task], expected, atol=1e-5)


def test_the_bonus_counts_for_each_step_to_go(model):
    bonus = torch.rand(30, 4, 3, generator=seeded(1))
    values = value_iteration(model, HORIZON, bonus).double()
    for task in range(30):
        expected = literal_values(*parts_of(task, model, bonus))
        np.testing.assert_allclose(values[:, task], expected, atol=1e-5)


# Slack that moves nothing, a little, most and all of the probability.
@pytest.mark.parametrize("most", [0.0, 0.1, 0.8, 3.0])
def test_extended_values_are_the_literal_recursion(model, most):
    slack = most * torch.rand(30, 4, 3, generator=seeded(2))
    values = extended_value_iteration(model, slack, HORIZON).double()
    for task in range(30):
        expected = literal_extended_values(*parts_of(task, model, slack))
        np.testing.assert_allclose(values[:, task], expected, atol=1e-5)


def test_optimism_grows_with_the_slack(model):
    none, some, more = (
        extended_value_iteration(model, torch.full((30, 4, 3), slack), HORIZON)
        for slack in (0.0, 0.2, 0.4)
    )
    torch.testing.assert_close(none, value_iteration(model, HORIZON))
    # In the last step all values are 0, and the shift of the previous step may undo its own.
    assert (some[:-2] > none[:-2]).float().mean() > 0.99
    assert (more[:-2] > some[:-2]).float().mean() > 0.99


def test_alike_actions_get_the_same_bits():
    transitions = torch.full((10, 20, 10, 5), 0.1)
    rewards = torch.zeros(20, 10, 5)
    rewards[:, 0, 0] = 1.3
    model = Model(rewards, transitions)
    slack = torch.full((20, 10, 5), 0.3)
    for played in (value_iteration(model, 10), extended_value_iteration(model, slack, 10)):
        alike = played[:, :, 1:]
        assert (alike == alike[:, :, :1, :1]).all()


def test_the_known_optimum():
    value = value_iteration(model_of(random_mdps(20_000, seed=4)), 10)[0, :, 0].amax(-1)
    assert value.mean().item() == pytest.approx(21.78, abs=3 * 0.04)
