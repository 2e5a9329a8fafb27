"""Memory lives as long as a trial, acting agrees with learning, gradients go where they must."""

import pytest
import torch
from torch import Tensor

from rl2_lightning import keys
from tests.builders import (
    as_minibatch,
    bandit_trials,
    collect,
    corridor_trials,
    gradients,
    make_network,
    make_ppo,
    point_trials,
    poisoned,
    seen_tasks,
)

KINDS = [(memory, separate) for memory in ("gru", "lstm") for separate in (False, True)]


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_memory_survives_episodes(memory: str, separate: bool) -> None:
    env = bandit_trials(5)
    network = make_network(env, memory, separate=separate)
    first, second = collect(env, network, seed=1), collect(env, network, seed=2)
    for key in network.state_keys:
        # Every step of a bandit ends an episode: the state goes on all the same.
        for step in range(env.max_steps - 1):
            reached = first[:, step].select(*network.in_keys)
            after = network(reached)[(keys.NEXT, key)]
            torch.testing.assert_close(first[:, step + 1][key], after)
            assert after.abs().sum() > 0
        assert (second[:, 0][key] == 0).all(), "memory is empty after a trial's end"
        assert (first[:, 0][key] == 0).all()


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials, point_trials])
@pytest.mark.parametrize(("memory", "separate"), KINDS)
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("critic_sees_task", [False, True])
def test_step_equals_window(
    make_trials, memory: str, separate: bool, window: int | None, critic_sees_task: bool
) -> None:
    env = make_trials(7)
    network = make_network(
        env,
        memory,
        separate=separate,
        num_layers=2,
        hidden_sizes=(6,),
        critic_sees_task=critic_sees_task,
    )
    trials = collect(env, network)
    assert (trials[keys.EPISODE] > 0).any()
    tasks = seen_tasks(env, network)
    minibatch = as_minibatch(trials.exclude(keys.NEXT), network, window, tasks=tasks)
    steps = network.unroll(
        minibatch[keys.WINDOW], minibatch[keys.MEMORY_STATE], minibatch.get(keys.TASK, None)
    )
    log_probs = network.actor.get_dist(steps).log_prob(steps[keys.ACTION])
    values = network.critic(steps.exclude(keys.STATE_VALUE))[keys.STATE_VALUE]
    mask = steps[keys.MASK].squeeze(-1)
    torch.testing.assert_close(log_probs[mask], steps[keys.ACTION_LOG_PROB][mask])
    torch.testing.assert_close(values[mask], steps[keys.STATE_VALUE][mask])


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_gradient_reaches_the_first_step(memory: str, separate: bool) -> None:
    env = bandit_trials(4)
    network = make_network(env, memory, separate=separate)
    minibatch = as_minibatch(collect(env, network).exclude(keys.NEXT), network)
    window = minibatch[keys.WINDOW]
    window[keys.PREVIOUS_REWARD] = window[keys.PREVIOUS_REWARD].clone().requires_grad_()
    steps = network.unroll(window, minibatch[keys.MEMORY_STATE])
    last = (
        network.actor.get_dist(steps[:, -1]).logits.sum()
        + network.critic(steps[:, -1])[keys.STATE_VALUE].sum()
    )
    (reached,) = torch.autograd.grad(last, window[keys.PREVIOUS_REWARD])
    assert (reached[:, 0].abs() > 0).all()


def test_burn_in_warms_the_memory_and_gets_none_of_the_loss() -> None:
    env = bandit_trials(4, num_episodes=6)
    network = make_network(env)
    learner = make_ppo(network, env)
    minibatch = as_minibatch(learner.prepare_trials(collect(env, network)), network, 3, burn_in=2)

    def loss(shift: float) -> tuple[float, Tensor | None]:
        changed = minibatch.clone()
        rewards = (changed[keys.BURN_IN][keys.PREVIOUS_REWARD] + shift).requires_grad_()
        changed[keys.BURN_IN][keys.PREVIOUS_REWARD] = rewards
        value = learner.training_step(changed, 0)
        value.backward()
        return value.item(), rewards.grad

    (plain, gradient), (shifted, _) = loss(0.0), loss(1.0)
    assert plain != shifted
    assert gradient is None


def test_steps_before_the_burn_in_do_not_matter() -> None:
    env = bandit_trials(4, num_episodes=6)
    network = make_network(env)
    learner = make_ppo(network, env)
    minibatch = as_minibatch(learner.prepare_trials(collect(env, network)), network, 3, burn_in=2)
    expected = gradients(learner, minibatch)
    # The first window of a trial has no burn-in: what stands there must not be read.
    first = ~minibatch[keys.HAS_BURN_IN].squeeze(-1)
    assert first.sum() == 4
    minibatch[keys.BURN_IN][keys.PREVIOUS_REWARD][first] = torch.nan
    for name, gradient in gradients(learner, minibatch).items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize(("window", "burn_in"), [(None, 0), (4, 0), (4, 3)])
@pytest.mark.parametrize("critic_sees_task", [False, True])
def test_masked_steps_change_no_gradient(
    window: int | None, burn_in: int, critic_sees_task: bool
) -> None:
    env = corridor_trials(9)
    trials = collect(env, make_network(env, critic_sees_task=critic_sees_task))
    assert (~trials[keys.MASK]).any()
    found = []
    for data in (trials, poisoned(trials)):
        network = make_network(env, critic_sees_task=critic_sees_task)
        learner = make_ppo(network, env)
        prepared = learner.prepare_trials(data)
        tasks = seen_tasks(env, network)
        minibatch = as_minibatch(prepared, network, window, burn_in, tasks)
        found.append(gradients(learner, minibatch))
    for name, gradient in found[0].items():
        assert gradient.isfinite().all()
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials])
@pytest.mark.parametrize(("memory", "separate"), KINDS)
@pytest.mark.parametrize(("window", "burn_in"), [(None, 0), (4, 2)])
def test_ratio_is_one_before_the_first_update(
    make_trials, memory: str, separate: bool, window: int | None, burn_in: int
) -> None:
    env = make_trials(6)
    network = make_network(env, memory, separate=separate)
    learner = make_ppo(network, env)
    trials = learner.prepare_trials(collect(env, network))
    minibatch = as_minibatch(trials, network, window, burn_in)
    losses = learner.ppo_loss(learner._steps_with_loss(minibatch))
    torch.testing.assert_close(losses["max_ratio"], torch.tensor(1.0))
    torch.testing.assert_close(losses["mean_ratio"], torch.tensor(1.0))
    assert losses["clip_fraction"] == 0
