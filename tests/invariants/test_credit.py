"""Credit crosses episodes, and stops at trials."""

import torch

from rl2_lightning import keys
from rl2_lightning.algorithms.advantages import clear_idle_steps, trial_advantages
from tests.builders import bandit_trials, collect, corridor_trials, make_network, make_ppo

GAMMA, GAE_LAMBDA = 0.97, 0.8


def advantages_of(trials, values):
    return trial_advantages(trials, values, gamma=GAMMA, gae_lambda=GAE_LAMBDA)[0]


def test_credit_crosses_episodes_not_trials() -> None:
    env = bandit_trials(4)
    trials = collect(env, make_network(env))
    values = trials[keys.STATE_VALUE]
    before = advantages_of(trials, values)
    changed = trials.clone()
    changed[keys.REWARD][0, 1] += 1.0
    moved = advantages_of(changed, values) - before
    torch.testing.assert_close(moved[0, 0], torch.tensor([GAMMA * GAE_LAMBDA]))
    assert (moved[1:] == 0).all()
    assert (moved[0, 2:] == 0).all()


def test_gae_equals_a_literal_recursion() -> None:
    env = corridor_trials(8)
    trials = clear_idle_steps(collect(env, make_network(env)))
    values = torch.randn(trials[keys.REWARD].shape, dtype=torch.float64)
    values = values.masked_fill(~trials[keys.MASK], 0)
    trials[keys.REWARD] = trials[keys.REWARD].double()
    found = advantages_of(trials, values)
    assert (~trials[keys.MASK]).any()
    for row in range(len(trials)):
        advantage = 0.0
        steps = int(trials[keys.MASK][row].sum())
        for step in reversed(range(steps)):
            following = values[row, step + 1].item() if step + 1 < steps else 0.0
            reward = trials[keys.REWARD][row, step].item()
            delta = reward + GAMMA * following - values[row, step].item()
            advantage = delta + GAMMA * GAE_LAMBDA * advantage
            assert abs(found[row, step].item() - advantage) < 1e-12


def test_a_cut_of_a_longer_life_bootstraps() -> None:
    env = bandit_trials(3, continues=True)
    network = make_network(env)
    trials = collect(env, network, extra=1)
    learner = make_ppo(network, env, value_norm_decay=0.0)
    learner.value_norm.update(torch.tensor([[0.0], [2.0]]))
    values = learner._values(trials)
    following = learner.value_norm.denormalize(trials[keys.STATE_VALUE][:, -1])
    assert not trials[keys.MASK][:, -1].any()
    torch.testing.assert_close(values[:, -1], following)
    advantages = advantages_of(clear_idle_steps(trials), values)
    last = env.max_steps - 1
    expected = trials[keys.REWARD][:, last] + GAMMA * following - values[:, last]
    torch.testing.assert_close(advantages[:, last], expected)


def test_advantages_are_normalised_over_the_steps_that_count() -> None:
    env = corridor_trials(9)
    network = make_network(env)
    trials = make_ppo(network, env).prepare_trials(collect(env, network))
    counted = trials[keys.ADVANTAGE][trials[keys.MASK]]
    torch.testing.assert_close(counted.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(counted.std(), torch.tensor(1.0))
