"""A critic may see the task; the actor never does."""

from itertools import product

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.windows import window_features
from tests.builders import (
    MEMORIES,
    as_minibatch,
    bandit_trials,
    collect,
    make_agent,
    make_learner,
    starts_of,
)
from tests.views import view_trials

KINDS = list(product(MEMORIES, (False, True)))
WORLDS = [bandit_trials, view_trials]


def with_other_tasks(trials: TensorDictBase) -> TensorDictBase:
    """The same trials, with the parameters of other tasks."""
    other = trials[keys.TASK].apply(lambda entry: (entry.float() + 1).to(entry.dtype))
    return trials.copy().set(keys.TASK, other)


def learner_of(env: TrialEnv, memory: str = "gru", **critic: bool):
    return make_learner(make_agent(env, memory), env, critic={"sees_task": True, **critic})


@pytest.mark.parametrize("make_trials", WORLDS)
@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_actor_never_sees_the_task(make_trials, memory: str, separate: bool) -> None:
    env = make_trials(6)
    learner = learner_of(env, memory, separate=separate)
    agent = learner.agent
    prepared = learner.prepare(collect(env, learner), [0])
    # A shared memory also gets the critic's gradient, so leave out the critic's loss.
    own = list(agent.parameters())

    def answers(trials: TensorDictBase) -> tuple[Tensor, ...]:
        minibatch = as_minibatch(learner, env, trials)
        steps = learner.lined_up_steps(minibatch)
        _, found = learner.loss_of(steps)
        policy = found["policy_loss"] + found["entropy_loss"]
        features = window_features(agent, minibatch)
        logits, value = agent.policy(features).logits, steps[keys.STATE_VALUE]
        return value, logits, features, *torch.autograd.grad(policy, own)

    value, *of_actor = answers(prepared)
    other_value, *same = answers(with_other_tasks(prepared))
    assert (value - other_value).abs().max() > 1e-3
    assert all(map(torch.equal, of_actor, same))
    assert all(gradient.any() for gradient in of_actor[2:])


@pytest.mark.parametrize("make_trials", WORLDS)
@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_acting_needs_no_task(make_trials, memory: str, separate: bool) -> None:
    env = make_trials(6)
    learner = learner_of(env, memory, separate=separate)
    steps = collect(env, learner)[keys.STEPS]
    # Another agent with these weights acts identically from the inputs alone.
    alone = make_agent(env, memory, seed=5)
    alone.load_state_dict(learner.agent.state_dict())
    inputs = inputs_of(steps)
    features, _ = alone.unroll(inputs, alone.initial_state(len(steps)))
    log_probs = alone.policy(features).log_prob(steps[keys.ACTION])
    mask = steps[keys.MASK].squeeze(-1)
    found = steps[keys.ACTION_LOG_PROB]
    assert found[mask].std() > 1e-2
    torch.testing.assert_close(log_probs[mask], found[mask], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make_trials", WORLDS)
@pytest.mark.parametrize("separate", [False, True])
def test_the_task_moves_the_values_of_a_trial_alike(make_trials, separate: bool) -> None:
    env = make_trials(6)
    learner = learner_of(env, separate=separate)
    plain = learner_of(env, separate=separate, sees_task=False)
    plain.load_state_dict(learner.state_dict(), strict=False)
    seeing, without = (
        one.critic.add_values(collect(env, one, window=2), starts_of(env, 2))
        for one in (learner, plain)
    )
    moved = seeing[keys.STEPS, keys.STATE_VALUE] - without[keys.STEPS, keys.STATE_VALUE]
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), atol=1e-5, rtol=1e-4)
    assert moved[:, 0].unique().numel() == 6


def test_only_a_critic_that_sees_the_task_has_weights_for_it() -> None:
    env = bandit_trials(3)
    plain, seeing = (
        dict(learner_of(env, sees_task=sees).named_parameters()) for sees in (False, True)
    )
    of_task = seeing.pop("critic.of_task.weight")
    assert of_task.shape == (1, 3)
    assert seeing.keys() == plain.keys()
    assert all(torch.equal(parameter, seeing[name]) for name, parameter in plain.items())


@pytest.mark.parametrize("sees_task", [False, True])
def test_windows_hold_the_task_only_for_a_critic_that_sees_it(sees_task: bool) -> None:
    env = bandit_trials(4)
    learner = learner_of(env, sees_task=sees_task)
    minibatch = as_minibatch(learner, env, learner.prepare(collect(env, learner), [0]))
    assert (keys.TASK in minibatch.keys()) is sees_task  # noqa: SIM118
