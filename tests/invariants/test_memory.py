"""Memory lasts for a trial, acting agrees with learning, and gradients reach the right steps."""

from itertools import product

import pytest
import torch
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.memories.memory import State, wants_state
from rl2_lightning.data.windows import are_shared, inputs_of, state_of
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.credit import clear_idle_steps
from rl2_lightning.learners.windows import window_features
from tests.builders import (
    CRITICS,
    MEMORIES,
    agent_settings,
    as_minibatch,
    bandit_trials,
    collect,
    corridor_trials,
    gradients,
    make_agent,
    make_learner,
    make_memory,
    minibatch_of,
    point_trials,
    poisoned,
    starts_of,
)
from tests.cases import every_pair
from tests.locks import lock_trials

KINDS = list(product(MEMORIES, (False, True)))


def learner_of(
    env: TrialEnv, memory: str = "gru", learner: str = "ppo", *, num_layers: int = 1, **critic: bool
) -> ActorCriticLearner:
    agent = make_agent(env, memory, num_layers=num_layers, **agent_settings(learner))
    return make_learner(agent, env, learner, critic=critic)


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials])
@pytest.mark.parametrize("memory", MEMORIES)
def test_memory_survives_episodes(make_trials, memory: str) -> None:
    env = make_trials(5)
    learner = learner_of(env, memory)
    agent = learner.agent
    first, second = (collect(env, learner, window=1, seed=seed) for seed in (1, 2))
    assert first[keys.MEMORY_STATE].batch_size == (5, env.max_steps)
    # Every step of a bandit ends an episode, but the state continues.
    assert (first[keys.STEPS, keys.EPISODE] > 0).any()
    for step in range(env.max_steps - 1):
        state = state_of(first[keys.MEMORY_STATE][:, step])
        reached = agent.act(inputs_of(first[keys.STEPS][:, step]), state).state
        kept = state_of(first[keys.MEMORY_STATE][:, step + 1])
        for expected, found in zip(reached, kept, strict=True):
            torch.testing.assert_close(found, expected)
        assert any(tensor.any() for tensor in kept)
    empty = agent.initial_state(5)
    for trials in (first, second):
        for tensor, expected in zip(state_of(trials[keys.MEMORY_STATE][:, 0]), empty, strict=True):
            assert torch.equal(tensor, expected), "memory is empty where a trial begins"


def stepped(memory, encoding: Tensor, state: tuple, is_init: Tensor | None) -> tuple:
    """Process a window step by step."""
    features = []
    for t in range(encoding.shape[1]):
        if is_init is not None:
            state = memory.restart(state, is_init[:, t])
        step, state = memory.step(encoding[:, t], state)
        features.append(step)
    return torch.stack(features, 1), state


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("resets", ["none", "some", "first step", "everywhere"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_step_equals_window(memory: str, resets: str, learns: bool) -> None:
    num, length = 5, 9
    module = make_memory(memory, 4, num_layers=2)
    torch.manual_seed(1)
    encoding = torch.randn(num, length, 4)
    is_init = {
        "none": None,
        "some": torch.rand(num, length, 1) < 0.3,
        "first step": torch.arange(length).view(1, -1, 1).expand(num, -1, -1) == 0,
        "everywhere": torch.ones(num, length, 1, dtype=torch.bool),
    }[resets]
    with torch.set_grad_enabled(learns):
        _, state = module.unroll(torch.randn(num, 3, 4), module.initial_state(num))
        expected, last = stepped(module, encoding, state, is_init)
        found, reached = module.unroll(encoding, state, is_init)
    assert found.requires_grad is learns
    torch.testing.assert_close(found, expected)
    for one, other in zip(reached, last, strict=True):
        torch.testing.assert_close(one, other)
    if resets == "first step":
        fresh, _ = module.unroll(encoding, module.initial_state(num))
        torch.testing.assert_close(found, fresh)
        assert not torch.allclose(found, module.unroll(encoding, state)[0])


@pytest.mark.parametrize(
    ("make_trials", "memory", "separate", "window", "sees_task"),
    every_pair(
        [bandit_trials, corridor_trials, point_trials, lock_trials],
        MEMORIES,
        [False, True],
        [None, 4],
        [False, True],
    ),
)
def test_a_window_is_learnt_from_as_it_was_played(
    make_trials, memory: str, separate: bool, window: int | None, sees_task: bool
) -> None:
    env = make_trials(7)
    agent = make_agent(env, memory, num_layers=2, hidden_sizes=(6,))
    critic = {"separate": separate, "sees_task": sees_task, "hidden_sizes": [6]}
    learner = make_learner(agent, env, critic=critic)
    trials = collect(env, learner, window=window)
    assert (trials[keys.STEPS, keys.EPISODE] > 0).any()
    prepared = learner.prepare(trials, starts_of(env, window))
    steps = learner.lined_up_steps(as_minibatch(learner, env, prepared, window=window))
    log_probs = agent.policy(steps[keys.FEATURES]).log_prob(steps[keys.ACTION])
    # The sharpened policy amplifies rounding errors of features, especially unbounded ones.
    rounding = {"rtol": 1e-5, "atol": 1e-4}
    torch.testing.assert_close(log_probs, steps[keys.ACTION_LOG_PROB], **rounding)
    torch.testing.assert_close(steps[keys.STATE_VALUE], steps[keys.OLD_STATE_VALUE])


@pytest.mark.parametrize("memory", MEMORIES)
def test_values_of_a_pass_are_those_of_single_steps(memory: str) -> None:
    env = corridor_trials(7)
    learner = learner_of(env, memory, separate=True, sees_task=True)
    critic, starts = learner.critic, starts_of(env, 4)
    trials = collect(env, learner, window=4)
    valued = critic.add_values(trials, starts)
    # Idle steps have no values.
    steps = clear_idle_steps(trials, starts)[keys.STEPS]
    state, states, values = critic.initial_state(7), [], []
    with torch.no_grad():
        for t in range(env.max_steps):
            states.append(state)
            features, state = critic.memory.step(critic.encoder(inputs_of(steps[:, t])), state)
            elapsed = steps[:, t : t + 1][keys.ELAPSED]
            values.append(critic.value(features.unsqueeze(1), elapsed, trials[keys.TASK]))
    torch.testing.assert_close(valued[keys.STEPS, keys.STATE_VALUE], torch.cat(values, 1))
    for number, start in enumerate(starts):
        kept = state_of(valued[keys.CRITIC_STATE][:, number])
        for found, expected in zip(kept, states[start], strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_gradient_reaches_the_first_step(memory: str, separate: bool) -> None:
    env = bandit_trials(4)
    learner = learner_of(env, memory, separate=separate)
    minibatch = minibatch_of(learner, env)
    window = minibatch[keys.WINDOW]
    window[keys.PREVIOUS_REWARD] = window[keys.PREVIOUS_REWARD].clone().requires_grad_()
    features = window_features(learner.agent, minibatch)[:, -1]
    own = features
    if separate:
        own = window_features(learner.critic, minibatch, keys.CRITIC_STATE)[:, -1]
    value = learner.critic.value(own.unsqueeze(1), window[keys.ELAPSED][:, -1:], None)
    for output in (learner.agent.policy(features).logits[:, 0], value):
        (reached,) = torch.autograd.grad(
            output.sum(), window[keys.PREVIOUS_REWARD], retain_graph=True
        )
        assert (reached[:, 0].abs() > 0).all()


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_windows_without_a_stored_state_begin_with_their_trials(
    memory: str, separate: bool
) -> None:
    env = bandit_trials(4)
    learner = learner_of(env, memory, separate=separate)
    minibatch = minibatch_of(learner, env)
    networks = [(learner.agent, keys.MEMORY_STATE), (learner.critic, keys.CRITIC_STATE)]
    for network, name in networks[: 1 + separate]:
        found = window_features(network, minibatch.exclude(name), name)
        assert torch.equal(found, window_features(network, minibatch, name))
        is_large = memory not in ("gru", "lstm", "min_gru")
        assert are_shared(minibatch[name]) is is_large, "and then not copied on the way"


def test_the_state_after_a_window_is_computed_only_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = bandit_trials(4, num_episodes=6)
    learner = learner_of(env, "matrix")
    minibatch = minibatch_of(learner, env, window=3, burn_in=2)
    wanted: list[bool] = []
    unroll = learner.agent.memory.unroll_trial

    def watched(encoding: Tensor, state: State) -> tuple[Tensor, State]:
        wanted.append(wants_state())
        return unroll(encoding, state)

    monkeypatch.setattr(learner.agent.memory, "unroll_trial", watched)
    window_features(learner.agent, minibatch)
    assert wanted == [True, False], "after the burn-in, and after the window"


def test_states_that_trials_share_stay_shared_where_steps_are_idle() -> None:
    env = corridor_trials(20)
    trials = collect(env, learner_of(env, "matrix"))
    assert not trials[keys.STEPS, keys.MASK].all()
    assert are_shared(clear_idle_steps(trials, [0])[keys.MEMORY_STATE])


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_burn_in_warms_the_memory_and_gets_none_of_the_loss(memory: str, separate: bool) -> None:
    env = bandit_trials(4, num_episodes=6)
    learner = learner_of(env, memory, separate=separate)
    minibatch = minibatch_of(learner, env, window=3, burn_in=2)

    def loss(shift: float) -> tuple[float, Tensor | None]:
        changed = minibatch.clone()
        rewards = (changed[keys.BURN_IN, keys.PREVIOUS_REWARD] + shift).requires_grad_()
        changed[keys.BURN_IN, keys.PREVIOUS_REWARD] = rewards
        value = learner.training_step(changed, 0)
        value.backward()
        return value.item(), rewards.grad

    (plain, gradient), (shifted, _) = loss(0.0), loss(1.0)
    assert plain != shifted
    assert gradient is None


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_steps_before_the_burn_in_do_not_matter(memory: str, separate: bool) -> None:
    env = bandit_trials(4, num_episodes=6)
    learner = learner_of(env, memory, separate=separate)
    minibatch = minibatch_of(learner, env, window=3, burn_in=2)
    expected = gradients(learner, minibatch)
    # The first window of a trial has no burn-in: its entries must not be read.
    first = ~minibatch[keys.HAS_BURN_IN].squeeze(-1)
    assert first.sum() == 4
    minibatch[keys.BURN_IN, keys.PREVIOUS_REWARD][first] = torch.nan
    for name, gradient in gradients(learner, minibatch).items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize(
    ("critic", "memory", "windows", "sees_task"),
    every_pair(CRITICS, MEMORIES, [(None, 0), (4, 0), (4, 3)], [False, True]),
)
def test_masked_steps_change_no_gradient(
    critic: tuple[str, bool], memory: str, windows: tuple[int | None, int], sees_task: bool
) -> None:
    (learner, separate), (window, burn_in) = critic, windows
    env, sizes = corridor_trials(9), {"window": window, "burn_in": burn_in}
    starts = starts_of(env, **sizes)
    found = []
    for poison in (False, True):
        teacher = learner_of(env, memory, learner, separate=separate, sees_task=sees_task)
        trials = collect(env, teacher, **sizes)
        assert (~trials[keys.STEPS, keys.MASK]).any()
        prepared = teacher.prepare(poisoned(trials, starts) if poison else trials, starts)
        found.append(gradients(teacher, as_minibatch(teacher, env, prepared, **sizes)))
    for name, gradient in found[0].items():
        assert gradient.isfinite().all()
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize(
    ("make_trials", "memory", "separate", "windows"),
    every_pair(
        [corridor_trials, point_trials, lock_trials], MEMORIES, [False, True], [(None, 0), (4, 2)]
    ),
)
def test_ratio_is_one_before_the_first_update(
    make_trials, memory: str, separate: bool, windows: tuple[int | None, int]
) -> None:
    window, burn_in = windows
    env = make_trials(6)
    learner = learner_of(env, memory, separate=separate)
    minibatch = minibatch_of(learner, env, window=window, burn_in=burn_in)
    steps = learner.lined_up_steps(minibatch)
    log_probs = learner.agent.policy(steps[keys.FEATURES]).log_prob(steps[keys.ACTION])
    ratio = (log_probs - steps[keys.ACTION_LOG_PROB]).exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio))
    assert learner.loss_of(steps)[1]["clip_fraction"] == 0
