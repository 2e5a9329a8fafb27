"""R2D2 with clipped PPO."""

from pathlib import Path

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.credit import off_policy_advantages, trial_advantages
from rl2_lightning.learners.r2d2_ppo import R2D2PPO
from tests.builders import (
    bandit_trials,
    collect,
    compose_config,
    corridor_trials,
    make_agent,
    make_learner,
    point_trials,
    run_shape,
)
from tests.invariants.test_runs import PPO, TINY, assert_same_run, of_learner, train
from tests.learners.replayed import Told, replayed
from tests.locks import lock_trials

NUM_TRIALS = 6


def learner_of(env: TrialEnv, **changes) -> R2D2PPO:
    learner = make_learner(make_agent(env), env, "r2d2_ppo", **changes)
    learner._source = Told()
    learner.require_finite = lambda *_: None
    return learner


CRITICS = [{}, {"separate": True, "sees_task": True}]


@pytest.mark.parametrize("critic", CRITICS, ids=["shared", "separate"])
@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials, point_trials, lock_trials])
def test_credit_of_the_policy_that_acted_is_that_of_ppo(make_trials, critic: dict) -> None:
    env = make_trials(NUM_TRIALS)
    learner = learner_of(env, critic=critic, off_policy_credit="gae")
    minibatch = replayed(env, learner)
    found = learner.with_credit(minibatch)[keys.WINDOW]
    steps = minibatch[keys.WINDOW]
    mask = steps[keys.MASK]
    settings = learner.settings
    values, _ = learner._current_values(
        minibatch, torch.cat([steps, minibatch[keys.FOLLOWING]], dim=1)
    )
    advantages, targets = trial_advantages(
        steps, values[:, :-1], gamma=settings.gamma, gae_lambda=settings.gae_lambda
    )
    targets = learner.value_scale.normalize(targets)
    centred = (advantages - advantages[mask].mean()) / advantages[mask].std()
    torch.testing.assert_close(found[keys.ADVANTAGE][mask], centred[mask], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[keys.VALUE_TARGET][mask], targets[mask], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("credit", ["v_trace", "gae"])
def test_weights_are_those_of_the_current_policy(credit: str) -> None:
    env = corridor_trials(NUM_TRIALS)
    learner = learner_of(env, off_policy_credit=credit)
    minibatch = replayed(env, learner)
    with torch.no_grad():
        for parameter in learner.agent.policy.parameters():
            parameter.mul_(-0.5)
    found = learner.with_credit(minibatch)[keys.WINDOW]
    steps = minibatch[keys.WINDOW]
    values, features = learner._current_values(
        minibatch, torch.cat([steps, minibatch[keys.FOLLOWING]], dim=1)
    )
    log_probs = learner.agent.policy(features[:, :-1]).log_prob(steps[keys.ACTION])
    log_ratios = (log_probs - steps[keys.ACTION_LOG_PROB]).unsqueeze(-1)
    mask = steps[keys.MASK]
    assert log_ratios[mask].abs().max() > 0.5
    settings = learner.settings
    advantages, _ = off_policy_advantages(
        steps,
        values,
        log_ratios.masked_fill(~mask, 0),
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        is_v_trace=credit == "v_trace",
    )
    centred = (advantages - advantages[mask].mean()) / advantages[mask].std()
    torch.testing.assert_close(found[keys.ADVANTAGE][mask], centred[mask])


def test_a_window_is_weighted_as_a_whole() -> None:
    env = bandit_trials(NUM_TRIALS)
    learner = learner_of(env, value_coefficient=0.7)
    minibatch = replayed(env, learner)
    weight = torch.linspace(0.2, 1, NUM_TRIALS)
    parts = {}
    for name, one in (("plain", torch.ones(NUM_TRIALS)), ("weighted", weight)):
        learner.training_step(minibatch.copy().set(keys.WEIGHT, one), 0)
        parts[name] = {key: values[-1] for key, values in learner._diagnostics.items()}
    credited = learner.with_credit(minibatch)
    learner._is_replayed = False
    steps = learner.lined_up_steps(credited)
    errors = (steps[keys.STATE_VALUE] - steps[keys.VALUE_TARGET]).square()
    by_step = weight.repeat(env.max_steps).unsqueeze(1)  # lined up time by time
    torch.testing.assert_close(parts["plain"]["replay_value_loss"], errors.mean())
    torch.testing.assert_close(parts["weighted"]["replay_value_loss"], (by_step * errors).mean())
    expected = -(by_step * steps[keys.ADVANTAGE]).mean()
    torch.testing.assert_close(parts["weighted"]["replay_policy_loss"], expected)
    entropy = learner.agent.policy(steps[keys.FEATURES]).entropy()
    expected = -learner.entropy_weight * (by_step.squeeze(1) * entropy).mean()
    torch.testing.assert_close(parts["weighted"]["replay_entropy_loss"], expected)


@pytest.mark.parametrize("window", [None, 2])
def test_priorities_are_errors_of_the_values(window: int | None) -> None:
    env = corridor_trials(NUM_TRIALS)
    learner = learner_of(env)
    minibatch = replayed(env, learner, window=window)
    found = learner.with_credit(minibatch)[keys.WINDOW]
    errors = (found[keys.VALUE_TARGET] - found[keys.STATE_VALUE]).abs().squeeze(-1)
    mask = found[keys.MASK].squeeze(-1)
    assert torch.equal(learner._source.indices, minibatch[keys.INDEX])
    for n in range(len(minibatch)):
        own = errors[n][mask[n]]
        told = 0.9 * own.max() + 0.1 * own.mean() if len(own) else torch.tensor(0.0)
        torch.testing.assert_close(learner._source.priorities[n], told)


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("window", [2, 4])
def test_windows_are_bootstrapped_from_the_step_after_them(window: int, continues: bool) -> None:
    env = bandit_trials(NUM_TRIALS, continues=continues)
    learner = learner_of(env, gae_lambda=0.0)
    with torch.no_grad():  # values start near zero, where bootstrapping would not show
        for parameter in learner.critic.parameters():
            parameter.copy_(torch.linspace(-2, 2, parameter.numel()).view_as(parameter))
    # Both before the credit, since collecting changes the scale of the values.
    whole, parts = replayed(env, learner), replayed(env, learner, window=window, burn_in=1)
    expected, found = (
        learner.with_credit(one)[keys.WINDOW][keys.VALUE_TARGET] for one in (whole, parts)
    )
    joined = found.reshape(NUM_TRIALS, -1, 1)[:, : env.max_steps]
    torch.testing.assert_close(joined, expected)


def test_without_replay_it_is_ppo_bit_for_bit(tmp_path: Path) -> None:
    own = (*of_learner("r2d2_ppo"), "learner.replay_ratio=0")
    assert_same_run(
        train(compose_config(tmp_path / "ppo", *TINY, *PPO, "tuned=none")),
        train(compose_config(tmp_path / "r2d2", *TINY, *own)),
    )


def test_minibatches_divide_among_the_ranks() -> None:
    env = bandit_trials(4)
    settings = make_learner(
        make_agent(env), env, "r2d2_ppo", replay={"batch_size": 9}, num_minibatches=1
    ).settings
    with pytest.raises(UserError, match=r"batch_size=9 .* 2 device\(s\): set .*batch_size=8$"):
        settings.check_run(run_shape(4, 2))


def test_a_replay_ratio_of_less_than_one_minibatch_is_refused() -> None:
    env = bandit_trials(4)
    with pytest.raises(UserError, match=r"replay_ratio=0.01 of 2 .* to at least 0.5$"):
        make_learner(make_agent(env), env, "r2d2_ppo", replay_ratio=0.01)


def test_old_windows_are_learnt_from_whatever_their_number_and_age() -> None:
    env = bandit_trials(NUM_TRIALS)
    learner = learner_of(env, target_kl=1e-6)
    minibatch = replayed(env, learner)
    with torch.no_grad():
        for parameter in learner.agent.policy.parameters():
            parameter.mul_(-0.5)
    loss = learner.training_step(minibatch, 0)
    assert not learner._stopped
    learner._steps_per_minibatch *= 7
    assert learner.training_step(minibatch, 0) == loss
    loss.backward()
    assert any(parameter.grad is not None for parameter in learner.agent.parameters())


def test_the_step_after_a_cut_is_kept_and_others_are_cleared() -> None:
    env = corridor_trials(NUM_TRIALS, continues=True)
    learner = learner_of(env)
    trials = collect(env, learner)
    given = trials[keys.STEPS]
    idle = ~given[keys.MASK].squeeze(-1)
    rows, length = torch.arange(NUM_TRIALS), (~idle).sum(dim=1)
    idle[rows, length] = False
    assert idle.any()
    given[keys.PREVIOUS_REWARD][idle] = 5.0
    kept = {
        name: given[name][rows, length].clone()
        for name in (keys.OBSERVATION, keys.PREVIOUS_ACTION, keys.PREVIOUS_REWARD, keys.ELAPSED)
    }
    assert any(entry.any() for entry in kept.values())
    found = learner.prepare(trials, [0])[keys.STEPS]
    for name, entry in kept.items():
        assert torch.equal(found[name][rows, length], entry), name
    assert (found[keys.PREVIOUS_REWARD][idle] == 0).all()
