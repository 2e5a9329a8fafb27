"""Policies that see the observation directly, and hypernetwork policies."""

import pytest
import torch
from torch import nn

from rl2_lightning import keys
from rl2_lightning.agents.action_queries import ActionMemory
from rl2_lightning.agents.belief import BeliefMemory
from rl2_lightning.agents.heads import HyperLayers, ShowingMemory
from rl2_lightning.agents.initialisation import fully_connected
from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.memory import State
from rl2_lightning.agents.settings import AgentSettings, BeliefSettings
from rl2_lightning.data.windows import inputs_of
from tests.builders import (
    MEMORIES,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    make_memory,
    point_trials,
)
from tests.views import view_trials


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials, view_trials])
@pytest.mark.parametrize(
    "head", [{"policy_sees_observation": True}, {"policy_head": "hypernetwork"}]
)
def test_features_begin_with_the_observation(make_trials, head: dict) -> None:
    env = make_trials(3)
    agent = make_agent(env, **head)
    learner = make_learner(agent, env)
    shown = inputs_of(collect(env, learner)[keys.STEPS])
    features, _ = agent.unroll(shown, agent.initial_state(3))
    assert agent.memory.summary_size == agent.memory.output_size == features.shape[-1]
    size = agent.memory.observation_size
    assert learner.critic.of_features.in_features == features.shape[-1] == size + 8
    if isinstance(shown.observation, torch.Tensor):
        torch.testing.assert_close(features[..., :size], shown.observation.flatten(2).float())
    assert features[..., :size].std() > 0


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_inner_memory_is_as_it_would_be_alone(memory: str) -> None:
    inner = make_memory(memory, 4)
    showing = ShowingMemory(inner, 3)
    encoding, state = torch.randn(2, 5, 7), inner.initial_state(2)
    features, last = showing.unroll(encoding, state)
    expected, reached = inner.unroll(encoding[..., :4], state)
    assert torch.equal(features, torch.cat([encoding[..., 4:], expected], -1))
    assert all(map(torch.equal, last, reached))
    step, _ = showing.step(encoding[:, 0], state)
    torch.testing.assert_close(step, features[:, 0])


class Noisy(GRU):
    """A memory that begins trials with noise."""

    def with_noise(self, state: State, generator: torch.Generator) -> State:
        return tuple(torch.randn(one.shape, generator=generator) for one in state)


WRAPPERS = {
    "observation": lambda inner: ShowingMemory(inner, 3),
    "moments": lambda inner: BeliefMemory(inner, BeliefSettings("moments", 3)),
    "samples": lambda inner: BeliefMemory(inner, BeliefSettings("samples", 3)),
    "queries": lambda inner: ActionMemory([4, 2], lambda _: inner, AgentSettings()),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_noise_of_the_inner_memory_is_kept(wrapper: str) -> None:
    inner = Noisy(4, hidden_size=5)
    memory = WRAPPERS[wrapper](inner)
    empty = memory.initial_state(6)
    state = memory.with_noise(empty, torch.Generator().manual_seed(1))
    expected = inner.with_noise(inner.initial_state(6), torch.Generator().manual_seed(1))
    assert torch.equal(state[0], *expected)
    assert [one.shape for one in state] == [one.shape for one in empty]


@pytest.mark.parametrize("hidden_sizes", [(), (5,), (5, 6)])
def test_hyper_layers_are_at_first_the_same_plain_ones(hidden_sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layers = HyperLayers(3, 4, hidden_sizes, 2)
    torch.manual_seed(0)
    plain = fully_connected(3, hidden_sizes, 2, output_gain=0.01)
    features = torch.randn(7, 5, 3 + 4)
    expected = plain(features[..., :3])
    torch.testing.assert_close(layers(features), expected)
    assert not layers.weights.weight.any()


def test_what_is_remembered_gives_the_weights() -> None:
    layers = HyperLayers(3, 4, (5,), 2)
    nn.init.normal_(layers.weights.weight)
    features = torch.randn(6, 7)
    numbers = layers.weights(features[:, 3:])
    for row, outputs, shown in zip(numbers, layers(features), features, strict=True):
        first, bias, second, last = row.split((15, 5, 10, 2))
        hidden = (first.view(5, 3) @ shown[:3] + bias).relu()
        torch.testing.assert_close(outputs, second.view(2, 5) @ hidden + last)
