"""A2C: its loss is the textbook's, and advantages have the units that are asked for."""

import pytest
import torch

from rl2_lightning import keys
from tests.builders import (
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    minibatch_of,
    point_trials,
)


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials])
def test_loss_is_literally_that_of_a2c(make_trials) -> None:
    env = make_trials(7)
    settings = {"value_coefficient": 0.3, "entropy_coefficient": 0.2}
    learner = make_learner(make_agent(env), env, "a2c", **settings)
    learner.clock.restart()
    windows = minibatch_of(learner, env)
    steps = learner.lined_up_steps(windows)
    policy = learner.agent.policy(steps[keys.FEATURES])
    total = 0.0
    log_probs, entropies = policy.log_prob(steps[keys.ACTION]), policy.entropy()
    for row in range(len(steps)):
        error = steps[keys.STATE_VALUE][row, 0] - steps[keys.VALUE_TARGET][row, 0]
        total -= steps[keys.ADVANTAGE][row, 0] * log_probs[row]
        total += 0.3 * error**2 - 0.2 * entropies[row]
    loss, diagnostics = learner.loss_of(steps)
    torch.testing.assert_close(loss, total / len(steps), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(diagnostics["entropy"], entropies.mean())
    torch.testing.assert_close(learner.window_loss(windows), loss)


def test_advantages_may_keep_their_size() -> None:
    env = corridor_trials(9)
    found = {}
    for normalise in (True, False):
        learner = make_learner(make_agent(env), env, "a2c", normalise_advantages=normalise)
        steps = learner.prepare(collect(env, learner), [0])[keys.STEPS]
        found[normalise] = steps[keys.ADVANTAGE][steps[keys.MASK]]
    torch.testing.assert_close(found[True].std(), torch.tensor(1.0))
    centred = found[False] - found[False].mean()
    torch.testing.assert_close(found[True], centred / found[False].std())
    # The scale is that of the value targets: advantages and values differ by the old values.
    assert found[False].std() != pytest.approx(1, abs=1e-3)
