"""The agent: its initialisation, its inputs, and its actions."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.settings import INPUTS
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs
from tests.agents.layers import assert_orthogonal
from tests.builders import (
    MEMORIES,
    bandit_trials,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    point_trials,
)
from tests.locks import lock_trials
from tests.views import view_trials

WORLDS = [bandit_trials, corridor_trials, point_trials, view_trials, lock_trials]


def window_of(env, agent: Agent) -> Inputs:
    """The inputs in some trials, `[B, T]`."""
    return inputs_of(collect(env, make_learner(agent, env))[keys.STEPS])


def at(inputs: Inputs, step: int) -> Inputs:
    def one(entry):
        if isinstance(entry, Tensor):
            return entry[:, step]
        return {name: part[:, step] for name, part in entry.items()}

    return Inputs(*map(one, inputs))


def logits(agent: Agent, inputs: Inputs) -> Tensor:
    features, _ = agent.unroll(inputs, agent.initial_state(len(inputs.previous_reward)))
    return agent.policy(features).logits


def test_layers_start_orthogonal_with_zero_biases() -> None:
    agent = make_agent(bandit_trials(3), hidden_sizes=(6, 5), gain=1)
    for part in (agent.encoder, agent.policy):
        linears = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
        assert len(linears) >= 2
        for layer in linears:
            assert not layer.bias.any()
            is_last = part is agent.policy and layer is linears[-1]
            assert_orthogonal(layer.weight, 0.01 if is_last else 2**0.5)


def test_the_first_policy_is_nearly_uniform() -> None:
    env = bandit_trials(50)
    learner = make_learner(make_agent(env, gain=1), env)
    log_probs = collect(env, learner)[keys.STEPS, keys.ACTION_LOG_PROB]
    uniform = torch.full_like(log_probs, 1 / 3)
    torch.testing.assert_close(log_probs.exp(), uniform, atol=0.02, rtol=0)


@pytest.mark.parametrize("memory", MEMORIES)
def test_features_are_float32_under_every_precision(memory: str) -> None:
    env = bandit_trials(6)
    agent = make_agent(env, memory)
    shown = window_of(env, agent)
    with torch.autocast("cpu", torch.bfloat16):
        step = agent.act(at(shown, 0), agent.initial_state(6))
        features, _ = agent.unroll(shown, agent.initial_state(6))
    assert step.features.dtype == features.dtype == torch.float32


def changed(inputs: Inputs, name: str) -> Inputs:
    """The inputs with one of them changed."""
    entry = getattr(inputs, name)
    other = (entry + 1) % 4 if name == "previous_action" else entry + 1.0
    return inputs._replace(**{name: other})


@pytest.mark.parametrize(
    "inputs", [INPUTS, Inputs._fields, INPUTS[:2], INPUTS[2:], ("previous_reward",)], ids=str
)
@pytest.mark.parametrize("memory", MEMORIES)
def test_policy_depends_on_its_inputs_alone(memory: str, inputs: tuple[str, ...]) -> None:
    env = bandit_trials(6)
    agent = make_agent(env, memory, inputs=inputs)
    shown = window_of(env, agent)
    expected = logits(agent, shown)
    for name in Inputs._fields:
        moved = (logits(agent, changed(shown, name)) - expected).abs().amax(dim=(0, 1))
        assert bool((moved > 1e-4).all()) is (name in inputs), name


def test_ablated_inputs_change_no_action() -> None:
    env = bandit_trials(6)
    agent = make_agent(env, inputs=("previous_action",))
    step = at(window_of(env, agent), 3)
    state = agent.initial_state(6)
    expected = agent.act(step, state, generator=torch.Generator().manual_seed(0))
    for name in set(Inputs._fields) - {"previous_action"}:
        given = changed(step, name)
        found = agent.act(given, state, generator=torch.Generator().manual_seed(0))
        assert torch.equal(found.action, expected.action)
        assert torch.equal(found.log_probability, expected.log_probability)


@pytest.mark.parametrize(("inputs", "told"), [([], r"\[\]"), (["reward"], r"\['reward'\]")])
def test_inputs_that_do_not_exist(inputs: list[str], told: str) -> None:
    with pytest.raises(UserError, match=rf"^agent.inputs={told}: name at least one of obs"):
        make_agent(bandit_trials(3), inputs=inputs)


@pytest.mark.parametrize("make_trials", WORLDS)
def test_a_user_is_shown_what_is_shown_in_trials(make_trials) -> None:
    env = make_trials(5)
    agent = make_agent(env)
    step = env.begin()
    shown, state = agent.first_inputs(step.inputs.observation), agent.initial_state(5)
    for _ in range(env.max_steps):
        for found, expected in zip(shown, step.inputs, strict=True):
            parts = [(found, expected)]
            if not isinstance(found, Tensor):
                parts = [(found[name], expected[name]) for name in expected]
            for one, other in parts:
                assert one.dtype == other.dtype
                assert torch.equal(one, other)
        action, _, state, _ = agent.act(shown, state)
        result = env.advance(action)
        step = result.following
        # Rewards and dones may lack a trailing dimension.
        reward, done = step.inputs.previous_reward.squeeze(1), result.episode_done.squeeze(1)
        shown = agent.next_inputs(shown, action, step.inputs.observation, reward, done)


def test_at_first_there_is_nothing_before() -> None:
    for env, no_action in ((corridor_trials(4), [2] * 4), (point_trials(4), [[0, 0]] * 4)):
        observation = env.begin().inputs.observation + 1
        first = make_agent(env).first_inputs(observation)
        assert first.observation is observation
        assert first.previous_action.tolist() == no_action
        assert not first.previous_reward.any()
        assert first.previous_done.tolist() == [[1.0]] * 4, "an episode begins"
        assert not first.previous_observation.any()


@pytest.mark.parametrize("make_trials", WORLDS)
def test_log_probabilities_are_those_of_the_distribution(make_trials) -> None:
    env = make_trials(5)
    agent = make_agent(env)
    inputs = agent.first_inputs(env.begin().inputs.observation)
    for greedy in (False, True):
        step = agent.act(inputs, agent.initial_state(5), greedy=greedy)
        distribution = agent.policy(step.features)
        torch.testing.assert_close(step.log_probability, distribution.log_prob(step.action))
        assert not step.log_probability.requires_grad
    best = getattr(distribution, "deterministic_sample", None)
    if best is None:
        (logits,) = agent.policy.parameters_of(step.features)
        best = logits.argmax(-1)
    assert torch.equal(step.action, best)


def test_actions_are_drawn_by_their_probabilities() -> None:
    env = bandit_trials(1)
    agent = make_agent(env, gain=1)
    with torch.no_grad():
        agent.policy.layers[-1].bias.copy_(torch.tensor([0.0, 1.0, -20.0]))
    observation = env.begin().inputs.observation.expand(20_000, 1)
    step = agent.act(
        agent.first_inputs(observation),
        agent.initial_state(20_000),
        generator=torch.Generator().manual_seed(0),
    )
    found = step.action.bincount(minlength=3) / 20_000
    expected = agent.policy(step.features[:1]).probs[0]
    torch.testing.assert_close(found, expected, atol=0.015, rtol=0)


def test_an_agent_draws_from_its_generator_alone() -> None:
    env = point_trials(4)
    agent = make_agent(env)
    inputs, state = agent.first_inputs(env.begin().inputs.observation), agent.initial_state(4)
    one, two = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first = agent.act(inputs, state, generator=one).action
    torch.manual_seed(99)
    assert torch.equal(agent.act(inputs, state, generator=two).action, first)
    assert not torch.equal(agent.act(inputs, state, generator=two).action, first)


@pytest.mark.parametrize("hidden_sizes", [(), (6,)])
@pytest.mark.parametrize("memory", MEMORIES)
def test_several_observations_each_have_their_part(
    memory: str, hidden_sizes: tuple[int, ...]
) -> None:
    env = view_trials(6)
    agent = make_agent(env, memory, inputs=Inputs._fields, hidden_sizes=hidden_sizes)
    assert list(agent.encoder.images) == ["observation_picture", "previous_observation_picture"]
    shown = window_of(env, agent)
    expected = logits(agent, shown)
    for field in ("observation", "previous_observation"):
        for part, entry in getattr(shown, field).items():
            other = {**getattr(shown, field), part: entry.flip(-1) + 1}
            moved = logits(agent, shown._replace(**{field: other})) - expected
            assert moved.abs().max() > 1e-3, (field, part)
    expected.square().sum().backward()
    assert all(parameter.grad.any() for parameter in agent.parameters())
    # One step at a time, as in acting.
    state = agent.initial_state(6)
    for t in range(env.max_steps):
        step = agent.act(at(shown, t), state)
        state = step.state
        found = agent.policy(step.features).logits
        torch.testing.assert_close(found, expected[:, t], rtol=1e-4, atol=1e-4)


def test_windows_go_on_from_one_another() -> None:
    env = bandit_trials(5)
    agent = make_agent(env)
    shown = window_of(env, agent)
    whole, last = agent.unroll(shown, agent.initial_state(5))
    state, parts = agent.initial_state(5), []
    for start, end in pairwise((0, 2, 5, 6)):
        part = Inputs(*(entry[:, start:end] for entry in shown))
        features, state = agent.unroll(part, state)
        parts.append(features)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(state, last)
