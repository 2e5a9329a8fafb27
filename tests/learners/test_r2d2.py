"""R2D2, the Q-learner."""

import copy
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.agents.encoders.normaliser import RunningSpread
from rl2_lightning.agents.settings import BeliefSettings
from rl2_lightning.data.exploration import EpsilonGreedyActor
from rl2_lightning.data.replay import ReplaySource
from rl2_lightning.data.replay_settings import ReplaySettings
from rl2_lightning.data.windows import cut_windows, inputs_of, state_steps
from rl2_lightning.errors import UserError
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.r2d2 import R2D2
from rl2_lightning.learners.windows import window_features
from rl2_lightning.settings import make_settings
from tests.builders import (
    bandit_trials,
    collect,
    compose_config,
    corridor_trials,
    make_agent,
    make_learner,
    point_trials,
)
from tests.invariants.test_runs import TINY, contents, of_learner, train
from tests.learners.replayed import Told, replayed

NUM_TRIALS, NUM_STEPS = 6, 3
EPSILON = 1e-3


def learner_of(env: TrialEnv, memory: str = "gru", **changes) -> R2D2:
    changes = {"num_steps": NUM_STEPS, "gamma": 0.9, "rescaling": EPSILON, **changes}
    learner = make_learner(make_agent(env, memory), env, "r2d2", **changes)
    learner._source = Told()
    with torch.no_grad():
        for parameter in learner.target_agent.parameters():
            parameter.mul_(1.1)
    return learner


def rescale(value: float) -> float:
    return (1 if value > 0 else -1) * ((abs(value) + 1) ** 0.5 - 1) + EPSILON * value


def unscale(value: float) -> float:
    inner = (1 + 4 * EPSILON * (abs(value) + 1 + EPSILON)) ** 0.5
    return (1 if value > 0 else -1) * (((inner - 1) / (2 * EPSILON)) ** 2 - 1)


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials])
def test_targets_equal_literal_ones(make_trials) -> None:
    env = make_trials(NUM_TRIALS)
    learner = learner_of(env)
    minibatch = replayed(env, learner)
    window = minibatch[keys.WINDOW]
    values, targets = learner.values_and_targets(minibatch)
    current = learner._q_values(learner.agent, learner.value, minibatch)
    theirs = learner._q_values(learner.target_agent, learner.target_value, minibatch)
    assert not torch.equal(current.argmax(-1), theirs.argmax(-1)), "the choice must matter"
    length = window.batch_size[1]
    for n in range(NUM_TRIALS):
        for t in range(length):
            if not window[keys.MASK][n, t]:
                continue
            assert values[n, t] == current[n, t, window[keys.ACTION][n, t]]
            total, at, has_ended = 0.0, t, False
            while at < t + NUM_STEPS and not has_ended:
                total += 0.9 ** (at - t) * float(window[keys.REWARD][n, at])
                has_ended = bool(window[keys.DONE][n, at])
                at += 1
            if not has_ended:
                best = current[n, at].argmax()
                total += 0.9 ** (at - t) * unscale(float(theirs[n, at, best]))
            assert float(targets[n, t]) == pytest.approx(rescale(total), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize(("window", "burn_in"), [(2, 0), (2, 2), (4, 2)])
def test_windows_have_the_targets_of_whole_trials(
    window: int, burn_in: int, continues: bool
) -> None:
    env = bandit_trials(NUM_TRIALS, continues=continues)
    learner = learner_of(env)
    _, whole = learner.values_and_targets(replayed(env, learner))
    windows = replayed(env, learner, window=window, burn_in=burn_in)
    learner.target_agent = copy.deepcopy(learner.agent)  # states are those of the agent
    _, expected = learner.values_and_targets(replayed(env, learner))
    _, found = learner.values_and_targets(windows)
    assert not torch.equal(whole, expected)
    joined = found.reshape(NUM_TRIALS, -1)[:, : env.max_steps]
    torch.testing.assert_close(joined, expected)


def test_the_greedy_action_has_the_largest_value() -> None:
    env = bandit_trials(NUM_TRIALS)
    learner = learner_of(env)
    minibatch = replayed(env, learner)
    values = learner._q_values(learner.agent, learner.value, minibatch)
    actor = EpsilonGreedyActor(learner.agent, torch.Generator(), epsilon=0.0, power=0.0)
    state = actor.start(env)
    step = minibatch[keys.WINDOW][:, 0]
    action, _, stored = actor.act(inputs_of(step), state)
    assert torch.equal(action, values[:, 0].argmax(-1))
    assert (stored[keys.ACTION_LOG_PROB] == 0).all()


def test_the_values_of_actions_are_dueling() -> None:
    env = bandit_trials(NUM_TRIALS)
    learner = learner_of(env)
    minibatch = replayed(env, learner)
    values = learner._q_values(learner.agent, learner.value, minibatch)
    features = window_features(learner.agent, minibatch, with_following=True)
    (advantages,) = learner.agent.policy.parameters_of(features)
    torch.testing.assert_close(values.mean(-1, keepdim=True), learner.value(features))
    differences = values - values[..., :1]
    torch.testing.assert_close(differences, advantages - advantages[..., :1])


def test_weights_are_relative_to_the_largest_one() -> None:
    env = bandit_trials(NUM_TRIALS)
    learner = learner_of(env)
    minibatch, losses = replayed(env, learner), []
    weight = torch.linspace(0.5, 1, NUM_TRIALS)
    for scale in (1, 3):
        learner.require_finite = lambda *_: None
        losses.append(learner.training_step(minibatch.set(keys.WEIGHT, scale * weight), 0))
    torch.testing.assert_close(*losses)


def test_each_trial_explores_with_its_own_probability() -> None:
    env = bandit_trials(4)
    agent = make_agent(env)
    made = [
        EpsilonGreedyActor(agent, torch.Generator(), epsilon=0.4, power=7.0, part=part)
        for part in [(0, 1), (0, 2), (1, 2)]
    ]
    for actor in made:
        actor.start(env)
    alone, first, second = (actor._epsilons for actor in made)
    assert alone.tolist() == pytest.approx([0.4 ** (1 + 7 * i / 3) for i in range(4)])
    both = torch.cat([first, second]).tolist()
    assert both == pytest.approx([0.4 ** (1 + i) for i in range(8)])


def test_random_actions_are_as_frequent_as_they_should_be() -> None:
    env = bandit_trials(3000)
    learner = learner_of(env, epsilon=0.5, epsilon_power=0.0)
    trials = collect(env, learner)
    log_probs = trials[keys.STEPS, keys.ACTION_LOG_PROB]
    num_actions = learner.agent.spec.actions.n
    best = 0.5 + 0.5 / num_actions
    is_best = log_probs.exp() > 0.5
    assert log_probs.exp()[is_best].mean().item() == pytest.approx(best)
    assert is_best.float().mean().item() == pytest.approx(best, abs=0.01)


def test_the_loss_is_weighted_and_priorities_are_told() -> None:
    env = corridor_trials(NUM_TRIALS)
    learner = learner_of(env)
    learner.require_finite = lambda *_: None
    minibatch = replayed(env, learner).set(keys.WEIGHT, torch.linspace(0.5, 1, NUM_TRIALS))
    values, targets = learner.values_and_targets(minibatch)
    mask = minibatch[keys.WINDOW][keys.MASK].squeeze(-1)
    assert not mask.all()
    errors = (targets - values).abs()
    weight = minibatch[keys.WEIGHT].unsqueeze(1).expand_as(errors)
    expected = 0.5 * (weight * errors**2)[mask].mean()
    torch.testing.assert_close(learner.training_step(minibatch, 0), expected)
    assert torch.equal(learner._source.indices, minibatch[keys.INDEX])
    for n in range(NUM_TRIALS):
        own = errors[n][mask[n]]
        told = 0.9 * own.max() + 0.1 * own.mean()
        torch.testing.assert_close(learner._source.priorities[n], told)


def test_a_zero_state_forgets_what_was_before_the_window() -> None:
    env = bandit_trials(NUM_TRIALS)
    stored, zero = learner_of(env), learner_of(env, state="zero")
    minibatch = replayed(env, stored, window=2)
    first = torch.arange(len(minibatch)) % 3 == 0  # of each trial's three windows
    losses = {}
    for name, learner in (("stored", stored), ("zero", zero)):
        losses[name] = [learner.training_step(one, 0) for one in (minibatch[first], minibatch)]
    assert losses["stored"][0] == losses["zero"][0]
    assert losses["stored"][1] != losses["zero"][1]


@pytest.mark.parametrize("polyak", [None, 0.25])
def test_the_target_network_follows(polyak: float | None) -> None:
    env = bandit_trials(2)
    learner = learner_of(env, target_period=3, polyak=polyak)
    before = [one.clone() for one in learner.target_agent.parameters()]
    for update in range(1, 4):
        learner.on_train_batch_end(None, None, 0)
        share = {None: float(update == 3), 0.25: 1 - 0.75**update}[polyak]
        pairs = zip(before, learner.agent.parameters(), strict=True)
        for (old, own), theirs in zip(pairs, learner.target_agent.parameters(), strict=True):
            torch.testing.assert_close(theirs, old.lerp(own.detach(), share))
    assert not any(parameter.requires_grad for parameter in learner.target_agent.parameters())


def test_new_training_from_weights_begins_with_equal_networks() -> None:
    env = bandit_trials(2)
    learner = learner_of(env)
    learner.updates_done.fill_(5)
    learner.take_weights(learner.state_dict())
    assert learner.updates_done == 0
    pairs = zip(learner.agent.parameters(), learner.target_agent.parameters(), strict=True)
    assert all(torch.equal(own, theirs) for own, theirs in pairs)


def test_the_target_network_sees_inputs_in_the_same_units() -> None:
    env = bandit_trials(NUM_TRIALS)
    belief = BeliefSettings("moments", size=3, normalised=True)
    agent = make_agent(env, belief=belief, normalised=["reward"])
    learner = make_learner(agent, env, "r2d2", num_steps=NUM_STEPS)
    # As after a training of the agent alone, by another learner.
    for spread in (one for one in agent.modules() if isinstance(one, RunningSpread)):
        numbers = 3 + 2 * torch.randn(50, len(spread.mean))
        spread.measure(*spread.deviations(numbers, torch.ones(50, dtype=torch.bool)))
        spread.update()
    learner.take_weights(learner.state_dict())
    minibatch = replayed(env, learner)
    current, theirs = (
        learner._q_values(agent, learner.value, minibatch)
        for agent in (learner.agent, learner.target_agent)
    )
    torch.testing.assert_close(theirs, current)


def test_continuous_actions_are_refused() -> None:
    env = point_trials(2)
    with pytest.raises(UserError, match=r"^learner=r2d2 .* continuous ones: use learner=r2d2_ppo$"):
        make_learner(make_agent(env), env, "r2d2")


def test_a_cut_life_is_valued_beyond_its_end() -> None:
    env = bandit_trials(NUM_TRIALS, continues=True)
    learner = learner_of(env)
    minibatch = replayed(env, learner, window=env.max_steps)
    _, targets = learner.values_and_targets(minibatch)
    rewards = minibatch[keys.WINDOW][keys.REWARD][:, -1, 0]
    alone = torch.tensor([rescale(float(one)) for one in rewards])
    assert (targets[:, -1] - alone).abs().min() > 1e-4


def test_whole_run(tmp_path: Path) -> None:
    last = train(compose_config(tmp_path, *TINY, *of_learner("r2d2")))
    assert contents(last)["state_dict"]["updates_done"] == 6 * 4


WINDOW, BURN_IN = 4, 2


def bytes_of_buffer(learner: str, changes: dict[str, Any]) -> float:
    """How much memory each window of a full buffer takes in this process."""
    env = corridor_trials(2000)
    made = make_learner(make_agent(env), env, learner, **changes)
    trials = collect(env, made, window=WINDOW, burn_in=BURN_IN)
    prepared = made.prepare(trials, state_steps(env.max_steps, WINDOW, BURN_IN))
    lengths = (env.max_steps, WINDOW, BURN_IN)
    kept = [keys.TASK] if made.reads_tasks else []
    windows = cut_windows(prepared, *lengths, kept, made.num_following)
    windows = windows[windows[keys.WINDOW][keys.MASK].flatten(1).any(dim=1)]
    settings = make_settings(ReplaySettings, {"capacity": 20 * len(windows)})
    source = ReplaySource(lambda: windows, lambda draw: draw, settings, num_minibatches=1)
    before = resident_bytes()
    for _ in range(20):
        source.begin()
    return (resident_bytes() - before) / settings.capacity


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (one for one in lines if one.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from Linux")
@pytest.mark.parametrize(
    ("learner", "changes", "more", "num_states", "task_size"),
    [
        ("r2d2", {}, 0, 1, 0),
        ("r2d2_ppo", {}, 12, 1, 0),
        ("r2d2_ppo", {"critic": {"separate": True, "sees_task": True}}, 12, 2, 1),
    ],
)
def test_the_buffer_takes_the_memory_that_the_docs_say(
    learner: str, changes: dict[str, Any], more: int, num_states: int, task_size: int
) -> None:
    # In a process of its own, where no freed memory is used again.
    with get_context("spawn").Pool(1) as pool:
        taken = pool.apply(bytes_of_buffer, (learner, changes))
    num_following, state_size = {"r2d2": 5, "r2d2_ppo": 1}[learner], 8
    per_step = 8 * 1 + 49 + more  # observations of one number
    of_window = 4 * state_size * num_states + 4 * task_size
    expected = (WINDOW + BURN_IN + num_following) * per_step + of_window
    assert taken == pytest.approx(expected, rel=0.1)
