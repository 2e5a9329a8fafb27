"""The critic: its inputs, what it shares with the agent, and its values of whole trials."""

from itertools import product

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs
from rl2_lightning.learners import critic as critic_module
from rl2_lightning.learners.critic import Critic, CriticSettings
from tests.agents.layers import assert_orthogonal
from tests.builders import (
    MEMORIES,
    bandit_trials,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    minibatch_of,
    starts_of,
)
from tests.views import view_trials

KINDS = list(product(MEMORIES, (False, True)))
FEATURES, ELAPSED = torch.randn(4, 5, 8), torch.rand(4, 5, 1)
TASKS = TensorDict(
    {
        "transitions": torch.randn(4, 2, 3),
        "goal": torch.arange(4),
        "maze": TensorDict({"walls": torch.rand(4, 2) < 0.5}, [4]),
    },
    [4],
)
TASK_SIZES = {"transitions": 6, "goal": 1, "maze.walls": 2}


def critic_of(sees_task: bool = True, **settings) -> Critic:
    torch.manual_seed(0)
    agent = make_agent(bandit_trials(4))
    return Critic(agent, CriticSettings(sees_task=sees_task, **settings), TASK_SIZES)


@pytest.mark.parametrize("hidden_sizes", [[], [6], [6, 5]], ids=str)
def test_value_is_that_of_the_concatenation(hidden_sizes: list[int]) -> None:
    critic = critic_of(hidden_sizes=hidden_sizes)
    terms = (critic.of_features, critic.of_elapsed, critic.of_task)
    first = torch.cat([term.weight for term in terms], 1)
    # All parameters in the order of their names, as float32.
    tasks = torch.cat(
        [
            TASKS["goal"].float().unsqueeze(1),
            TASKS["maze", "walls"].float(),
            TASKS["transitions"].flatten(1),
        ],
        dim=1,
    )
    joined = torch.cat([FEATURES, ELAPSED, tasks.unsqueeze(1).expand(-1, 5, -1)], dim=-1)
    expected = critic.layers(joined @ first.T + critic.of_features.bias)
    found = critic.value(FEATURES, ELAPSED, TASKS)
    assert found.shape == (4, 5, 1)
    torch.testing.assert_close(found, expected)


def test_parameters_are_read_in_the_same_order_wherever_they_stand() -> None:
    critic = critic_of(hidden_sizes=[6])
    turned = TensorDict({key: TASKS[key] for key in reversed(list(TASKS.keys()))}, [4])
    values = [critic.value(FEATURES, ELAPSED, tasks) for tasks in (TASKS, turned)]
    assert torch.equal(*values)


def test_layers_start_orthogonal_with_zero_biases() -> None:
    critic = critic_of(hidden_sizes=[6, 5])
    linears = [layer for layer in critic.modules() if isinstance(layer, nn.Linear)]
    assert len(linears) == 3 + 2
    for layer in linears:
        assert layer.bias is None or not layer.bias.any()
        assert_orthogonal(layer.weight, 1.0 if layer is linears[-1] else 2**0.5)
    alone = critic_of()
    assert_orthogonal(alone.of_features.weight, 1.0)


def test_a_task_without_parameters_cannot_be_seen() -> None:
    agent = make_agent(bandit_trials(4))
    with pytest.raises(UserError, match=r"^learner.critic.sees_task=true but the tasks .* no par"):
        Critic(agent, CriticSettings(sees_task=True), {})
    Critic(agent, CriticSettings(), {})


@pytest.mark.parametrize("hidden_sizes", [[], [6]], ids=str)
@pytest.mark.parametrize("separate", [False, True])
def test_value_depends_on_the_elapsed_time_and_the_policy_does_not(
    hidden_sizes: list[int], separate: bool
) -> None:
    env = bandit_trials(6)
    critic = {"separate": separate, "hidden_sizes": hidden_sizes}
    learner = make_learner(make_agent(env), env, critic=critic)
    minibatch = minibatch_of(learner, env)

    def answers(elapsed: float) -> tuple[Tensor, Tensor]:
        changed = minibatch.clone()
        changed[keys.WINDOW, keys.ELAPSED].fill_(elapsed)
        steps = learner.lined_up_steps(changed)
        return learner.agent.policy(steps[keys.FEATURES]).logits, steps[keys.STATE_VALUE]

    (logits, early), (same_logits, late) = answers(0.1), answers(0.9)
    assert torch.equal(logits, same_logits)
    assert ((early - late).abs() > 1e-3).all()


@pytest.mark.parametrize("inputs", [Inputs._fields, ("previous_reward", "previous_done")], ids=str)
def test_a_separate_critic_sees_what_the_agent_sees(inputs: tuple[str, ...]) -> None:
    env = bandit_trials(6)
    learner = make_learner(make_agent(env, inputs=inputs), env, critic={"separate": True})
    minibatch = minibatch_of(learner, env)
    expected = learner.lined_up_steps(minibatch)[keys.STATE_VALUE]
    for name in Inputs._fields:
        changed = minibatch.clone()
        entry = changed[keys.WINDOW, name]
        other = (entry + 1) % 4 if name == keys.PREVIOUS_ACTION else entry + 1.0
        changed[keys.WINDOW, name] = other
        moved = learner.lined_up_steps(changed)[keys.STATE_VALUE] - expected
        assert bool(moved.abs().max() > 1e-4) is (name in inputs), name


@pytest.mark.parametrize("memory", MEMORIES)
def test_separate_memories_share_no_parameter(memory: str) -> None:
    env = bandit_trials(5)
    agent = make_agent(env, memory, hidden_sizes=(4,))
    learner = make_learner(agent, env, critic={"separate": True, "hidden_sizes": [4]})
    steps = learner.lined_up_steps(minibatch_of(learner, env))
    names, parameters = zip(*learner.named_parameters(), strict=True)

    def reached(output: Tensor) -> set[str]:
        found = torch.autograd.grad(output.sum(), parameters, retain_graph=True, allow_unused=True)
        return {name for name, gradient in zip(names, found, strict=True) if gradient is not None}

    by_actor = reached(agent.policy(steps[keys.FEATURES]).logits)
    by_critic = reached(steps[keys.STATE_VALUE])
    assert by_actor == {name for name in names if name.startswith("agent.")}
    assert by_critic == {name for name in names if name.startswith("critic.")}
    assert by_actor | by_critic == set(names)
    theirs = dict(learner.critic.memory.named_parameters())
    own = dict(agent.memory.named_parameters())
    assert own.keys() == theirs.keys()
    assert any(not torch.equal(weight, theirs[name]) for name, weight in own.items())


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_shared_memory_is_reached_by_both(memory: str) -> None:
    env = bandit_trials(5)
    learner = make_learner(make_agent(env, memory), env)
    steps = learner.lined_up_steps(minibatch_of(learner, env))
    logits = learner.agent.policy(steps[keys.FEATURES]).logits[..., 0]
    for output in (logits, steps[keys.STATE_VALUE]):
        gradients = torch.autograd.grad(
            output.sum(), list(learner.agent.memory.parameters()), retain_graph=True
        )
        assert all(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("burn_in", [0, 3])
@pytest.mark.parametrize("make_trials", [corridor_trials, view_trials])
@pytest.mark.parametrize("rows_at_once", [1, 2, 7])
def test_values_in_chunks_are_those_at_once(
    monkeypatch: pytest.MonkeyPatch, make_trials, rows_at_once: int, burn_in: int
) -> None:
    env = make_trials(7)
    critic = {"separate": True, "sees_task": True}
    learner = make_learner(make_agent(env), env, critic=critic)
    starts = starts_of(env, 4, burn_in)
    trials = collect(env, learner, window=4, burn_in=burn_in)
    whole = learner.critic.add_values(trials, starts)
    sizes: list[int] = []
    unroll = learner.critic.unroll

    def spy(inputs, state, **given):
        sizes.append(len(state[0]))
        return unroll(inputs, state, **given)

    monkeypatch.setattr(learner.critic, "unroll", spy)
    monkeypatch.setattr(critic_module, "MAX_NUMBERS", rows_at_once * env.max_steps * 8)
    chunked = learner.critic.add_values(trials, starts)
    assert max(sizes) == rows_at_once
    for key in ((keys.STEPS, keys.STATE_VALUE), keys.CRITIC_STATE):
        found, expected = chunked[key], whole[key]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert whole[keys.CRITIC_STATE].batch_size == (7, len(starts))
    if burn_in:
        assert starts[:2] == [0, 1]
    assert keys.STATE_VALUE not in trials[keys.STEPS].keys()  # noqa: SIM118  nothing is written
    assert keys.CRITIC_STATE not in trials.keys()  # noqa: SIM118


def test_a_state_that_is_asked_for_twice_is_given_twice() -> None:
    env = bandit_trials(4)
    learner = make_learner(make_agent(env), env, critic={"separate": True})
    starts = starts_of(env, 2, 2)
    assert starts == [0, 0, 2]
    states = learner.critic.add_values(collect(env, learner, window=2, burn_in=2), starts)
    kept = states[keys.CRITIC_STATE]["0"]
    assert not kept[:, :2].any()
    assert kept[:, 2].any()
