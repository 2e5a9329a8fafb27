"""The action memory: each action's read contains exactly what was written at its key."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rl2_lightning.agents.action_queries import drawn_keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import State, second_derivatives
from rl2_lightning.agents.settings import INPUTS, ActionQuerySettings
from rl2_lightning.errors import UserError
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.tabular_mdp import TabularMDP
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.inputs import Inputs
from tests.builders import make_agent, make_learner, point_trials

NUM_STEPS = 12
WITHOUT_ACTION = tuple(name for name in INPUTS if name != "previous_action")


def agent_of(
    num_arms: int, *, inputs: tuple[str, ...] = INPUTS, seed: int = 0, **queries: object
) -> Agent:
    env = TrialEnv(BernoulliBandit(1, num_arms=num_arms), episodes_per_trial=NUM_STEPS)
    return make_agent(
        env,
        inputs=inputs,
        hidden_sizes=(6,),
        seed=seed,
        policy_head="action_queries",
        action_queries=ActionQuerySettings(**queries),
    )


def history(num_arms: int, num_trials: int = 5) -> Inputs:
    """The inputs in trials of random pulls, `[B, T]`."""
    generator = torch.Generator().manual_seed(1)
    actions = torch.randint(num_arms, (num_trials, NUM_STEPS), generator=generator)
    actions[:, 0] = num_arms
    numbers = torch.rand(4, num_trials, NUM_STEPS, 1, generator=generator)
    return Inputs(numbers[0], actions, numbers[1], numbers[2], numbers[3])


def features_of(agent: Agent, shown: Inputs) -> Tensor:
    return agent.unroll(shown, agent.initial_state(len(shown.previous_reward)))[0]


def logits_of(agent: Agent, shown: Inputs) -> Tensor:
    return agent.policy(features_of(agent, shown)).logits


def test_drawn_keys_are_always_the_same_first_ones() -> None:
    many = drawn_keys(150, 64)
    for num in (1, 5, 64, 100):
        assert torch.equal(drawn_keys(num, 64), many[:num])
    products = many @ many.mT
    torch.testing.assert_close(products[:64, :64], torch.eye(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(products.diagonal(), torch.ones(150))
    others = products - torch.eye(150)
    assert others.abs().max() < 0.7
    assert not torch.equal(many[:64], many[64:128])


@pytest.mark.parametrize("keys", ["drawn", "learned"])
def test_a_read_is_the_sum_of_what_was_written_under_an_action(keys: str) -> None:
    agent, shown = agent_of(3, keys=keys), history(3)
    memory = agent.memory
    encoding = agent.encoder(shown)
    values = memory.value(encoding[..., : agent.encoder.sizes[0]])
    took = one_hot(shown.previous_action, 4)[..., :3].float()
    sums = torch.einsum("bta,btv->btav", took, values).cumsum(1)
    expected = sums.sign() * sums.abs().log1p()
    summary, reads = features_of(agent, shown).tensor_split((memory.summary_size,), -1)
    torch.testing.assert_close(reads.unflatten(-1, (3, -1)), expected)
    total = sums.sum(-2)
    pooled = [expected.mean(-2), expected.amax(-2), total.sign() * total.abs().log1p()]
    torch.testing.assert_close(summary[..., -48:], torch.cat(pooled, -1))


def assert_single_steps_are_a_window(agent: Agent, shown: Inputs, state: State) -> None:
    """Compare both from a state, with two trials that begin anew in the window."""
    num_trials, num_steps = shown.previous_action.shape
    is_init = torch.zeros(num_trials, num_steps, 1, dtype=torch.bool)
    is_init[1, 4] = is_init[3, 0] = True
    expected, last = agent.unroll(shown, state, is_init)
    for t in range(num_steps):
        state = agent.memory.restart(state, is_init[:, t])
        step = agent.act(Inputs(*(entry[:, t] for entry in shown)), state)
        torch.testing.assert_close(step.features, expected[:, t])
        state = step.state
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("keys", ["drawn", "learned"])
def test_single_steps_are_a_window(keys: str) -> None:
    agent = agent_of(3, keys=keys)
    _, state = agent.unroll(history(3), agent.initial_state(5))
    assert_single_steps_are_a_window(agent, history(3), state)


def test_how_actions_are_numbered_does_not_matter() -> None:
    agent, shown = agent_of(4, inputs=WITHOUT_ACTION), history(4)
    order = torch.tensor([2, 0, 3, 1, 4])  # the last one encodes no action
    renumbered = shown._replace(previous_action=order[shown.previous_action])
    expected = logits_of(agent, shown)
    assert expected.std(-1)[:, 2:].min() > 1e-3
    found = logits_of(agent, renumbered)[..., order[:4]]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    size = agent.memory.summary_size
    summaries = (features_of(agent, one)[..., :size] for one in (shown, renumbered))
    torch.testing.assert_close(*summaries)


def test_with_drawn_keys_weights_go_with_any_number_of_actions() -> None:
    few, many = agent_of(3), agent_of(90, keys="drawn", seed=5)
    many.load_state_dict(few.state_dict())
    shown = history(3)
    as_many = shown._replace(
        previous_action=shown.previous_action.where(shown.previous_action < 3, torch.tensor(90))
    )
    reads, others = features_of(few, shown), features_of(many, as_many)
    size = few.memory.summary_size
    # Actions that were never taken have empty reads: 87 of them.
    torch.testing.assert_close(others[..., size : size + 48], reads[..., size:])
    assert others[..., size + 48 : size + 61 * 16].abs().max() < 1e-5
    assert logits_of(many, as_many).shape == (5, NUM_STEPS, 90)
    learned = [agent_of(num, keys="learned").state_dict() for num in (3, 90)]
    (only,) = (name for name in learned[0] if learned[0][name].shape != learned[1][name].shape)
    assert only == "memory.keys"


def test_the_inner_memory_sees_the_action_if_it_is_an_input() -> None:
    shown = history(3)
    moved = shown._replace(previous_action=(shown.previous_action + 1) % 3)
    for inputs in (INPUTS, WITHOUT_ACTION):
        agent = agent_of(3, inputs=inputs)
        inner = [features_of(agent, one)[..., :8] for one in (shown, moved)]
        assert torch.equal(*inner) is (inputs is WITHOUT_ACTION)
        assert not torch.allclose(logits_of(agent, shown), logits_of(agent, moved))


LONG = 150  # more steps than the linear attention reads at once


def agent_in_states(*, inputs: tuple[str, ...] = INPUTS, keys: str = "drawn") -> Agent:
    """An agent of MDPs of four states, whose keys depend on observations."""
    env = TrialEnv(TabularMDP(1, num_states=4, num_actions=3), episodes_per_trial=40)
    queries = ActionQuerySettings(
        keys=keys, of_observation=True, key_size=3, observation_key_size=5
    )
    return make_agent(
        env, inputs=inputs, hidden_sizes=(6,), policy_head="action_queries", action_queries=queries
    )


def in_states(num_steps: int = LONG, *, seed: int = 1) -> Inputs:
    """The inputs in trials of random actions in random states, `[4, T]`."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randint(4, (4, num_steps + 1), generator=generator)
    shown = one_hot(states, 4).float()
    shown[:, 0] = 0
    actions = torch.randint(3, (4, num_steps), generator=generator)
    actions[:, 0] = 3
    numbers = torch.randn(2, 4, num_steps, 1, generator=generator)
    return Inputs(shown[:, 1:], actions, *numbers, shown[:, :-1])


def test_a_read_is_the_sum_of_what_was_written_in_this_observation() -> None:
    agent, shown = agent_in_states(), in_states()
    values = agent.memory.value(agent.encoder(shown)[..., : agent.encoder.sizes[0]])
    took = one_hot(shown.previous_action, 4)[..., :3].float()
    written = torch.einsum("bts,bta,btv->btsav", shown.previous_observation, took, values)
    sums = torch.einsum("bts,btsav->btav", shown.observation, written.cumsum(1))
    expected = sums.sign() * sums.abs().log1p()
    reads = features_of(agent, shown)[..., agent.memory.summary_size :]
    torch.testing.assert_close(reads.unflatten(-1, (3, -1)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("keys", ["drawn", "learned"])
def test_single_steps_with_keys_of_observations_are_a_window(keys: str) -> None:
    agent = agent_in_states(keys=keys)
    _, state = agent.unroll(in_states(seed=2), agent.initial_state(4))
    assert_single_steps_are_a_window(agent, in_states(), state)


@pytest.mark.parametrize("name", ["observation", "previous_observation", "previous_reward"])
def test_nan_does_not_spread_to_earlier_steps(name: str) -> None:
    agent, shown = agent_in_states(inputs=("previous_reward",)), in_states()
    broken = shown._replace(**{name: getattr(shown, name).clone()})
    getattr(broken, name)[1, 140] = torch.nan
    plain, found = features_of(agent, shown), features_of(agent, broken)
    assert torch.equal(found[[0, 2, 3]], plain[[0, 2, 3]])
    assert torch.equal(found[1, :140], plain[1, :140])


def test_nothing_is_written_without_an_action() -> None:
    agent, shown = agent_in_states(), in_states()
    nothing = shown._replace(previous_action=torch.full_like(shown.previous_action, 3))
    assert not features_of(agent, nothing)[..., agent.memory.summary_size :].any()


def test_the_last_read_reaches_the_first_write() -> None:
    agent, shown = agent_in_states(), in_states()
    reward = shown.previous_reward.requires_grad_()
    reads = features_of(agent, shown)[:, -1, agent.memory.summary_size :]
    (slope,) = torch.autograd.grad(reads.sum(), reward)
    same = (shown.previous_observation[:, 1] * shown.observation[:, -1]).sum(-1) > 0
    assert same.any()
    assert torch.equal(slope[:, 1, 0].abs() > 1e-4, same)


def test_keys_of_observations_have_second_derivatives() -> None:
    agent, shown = agent_in_states(), in_states(9)  # the first previous observation is zero
    with second_derivatives():
        loss = features_of(agent, shown).square().sum()
        weights = [agent.memory.observation_key.weight, agent.memory.observation_key.bias]
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        again = torch.autograd.grad(sum(one.square().sum() for one in slopes), weights)
    assert all(one.isfinite().all() and one.any() for one in again)


@pytest.mark.parametrize("separate", [False, True])
def test_a_value_does_not_depend_on_single_actions(separate: bool) -> None:
    env = TrialEnv(BernoulliBandit(2, num_arms=3), episodes_per_trial=NUM_STEPS)
    agent = agent_of(3)
    learner = make_learner(agent, env, critic={"separate": separate})
    size = agent.memory.summary_size
    assert learner.critic.of_features.in_features == size == 8 + 3 * 16
    features = torch.randn(2, 4, agent.memory.output_size)
    changed = features.clone()
    changed[..., size:] += 1
    elapsed = torch.rand(2, 4, 1)
    values = [learner.critic.value(one, elapsed, None) for one in (features, changed)]
    assert torch.equal(*values)


def test_numbers_cannot_be_asked_for() -> None:
    with pytest.raises(UserError, match=r"^agent\.policy_head=action_queries with contin"):
        make_agent(point_trials(2), hidden_sizes=(6,), policy_head="action_queries")


def test_scores_need_a_layer() -> None:
    env = TrialEnv(BernoulliBandit(1, num_arms=3), episodes_per_trial=2)
    with pytest.raises(UserError, match=r"give the scores a layer, agent\.policy_hidden_size"):
        make_agent(env, policy_head="action_queries")
