"""The invariants for agents with other policies than plain layers."""

import pytest
import torch
from torch import nn

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.heads import HyperLayers
from rl2_lightning.agents.settings import ActionQuerySettings, BeliefSettings
from rl2_lightning.agents.spec import AgentSpec
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.ppo import PPO
from tests.builders import (
    as_minibatch,
    bandit_trials,
    collect,
    corridor_trials,
    gradients,
    make_agent,
    make_learner,
    poisoned,
    starts_of,
)
from tests.views import view_trials

HEADS = {
    "action queries": {
        "policy_head": "action_queries",
        "action_queries": ActionQuerySettings("learned"),
    },
    "action queries of observations": {
        "policy_head": "action_queries",
        "policy_sees_observation": True,
        "action_queries": ActionQuerySettings(of_observation=True),
    },
    "observation": {"policy_sees_observation": True},
    "hypernetwork": {"policy_head": "hypernetwork"},
    "belief": {"belief": BeliefSettings("moments", 3), "policy_sees_observation": True},
    "hypernetwork on samples of a belief": {
        "policy_head": "hypernetwork",
        "belief": BeliefSettings("samples", 3),
    },
}


def agent_of(env: TrialEnv, head: str, memory: str = "gru") -> Agent:
    agent = make_agent(env, memory, hidden_sizes=(6,), gain=10, **HEADS[head])
    for module in agent.modules():
        if isinstance(module, HyperLayers):
            nn.init.normal_(module.weights.weight, std=0.1)  # as after some training
    return agent


def learner_of(env: TrialEnv, head: str, memory: str = "gru", *, separate: bool = False) -> PPO:
    agent = agent_of(env, head, memory)
    return make_learner(agent, env, critic={"separate": separate, "hidden_sizes": [6]})


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials, view_trials])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("memory", ["gru", "matrix"])
@pytest.mark.parametrize("head", HEADS)
def test_a_window_is_learnt_from_as_it_was_played(
    make_trials, head: str, memory: str, separate: bool
) -> None:
    env = make_trials(7)
    learner = learner_of(env, head, memory, separate=separate)
    prepared = learner.prepare(collect(env, learner, window=4), starts_of(env, 4))
    steps = learner.lined_up_steps(as_minibatch(learner, env, prepared, window=4))
    log_probs = learner.agent.policy(steps[keys.FEATURES]).log_prob(steps[keys.ACTION])
    assert log_probs.std() > 1e-3
    torch.testing.assert_close(log_probs, steps[keys.ACTION_LOG_PROB])
    torch.testing.assert_close(steps[keys.STATE_VALUE], steps[keys.OLD_STATE_VALUE])


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_masked_steps_change_no_gradient(head: str, separate: bool) -> None:
    env, sizes = corridor_trials(9), {"window": 4, "burn_in": 3}
    starts, found = starts_of(env, **sizes), []
    for poison in (False, True):
        learner = learner_of(env, head, separate=separate)
        trials = collect(env, learner, **sizes)
        prepared = learner.prepare(poisoned(trials, starts) if poison else trials, starts)
        found.append(gradients(learner, as_minibatch(learner, env, prepared, **sizes)))
    for name, gradient in found[0].items():
        assert gradient.isfinite().all()
        assert gradient.any(), name
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize("head", HEADS)
def test_it_is_built_from_its_spec(head: str) -> None:
    env = bandit_trials(4)
    agent = agent_of(env, head)
    spec = AgentSpec.from_plain(agent.spec.to_plain())
    assert spec == agent.spec
    other = Agent(spec)
    other.load_state_dict(agent.state_dict())
    inputs, state = env.begin().inputs, agent.initial_state(4)
    for _ in range(3):
        one, two = agent.act(inputs, state, greedy=True), other.act(inputs, state, greedy=True)
        assert torch.equal(one.log_probability, two.log_probability)
        state = one.state
