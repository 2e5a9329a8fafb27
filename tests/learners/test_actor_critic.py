"""The base of actor-critic learners: schedules, statistics, counts, and unique parameters."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from rl2_lightning import keys
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.config import CollectionConfig, StageConfig
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.credit import clear_idle_steps, trial_advantages
from tests.builders import (
    ACTOR_CRITICS,
    CRITICS,
    MEMORIES,
    agent_settings,
    as_minibatch,
    bandit_trials,
    collect,
    compose_config,
    corridor_trials,
    gradients,
    make_agent,
    make_learner,
    minibatch_of,
    point_trials,
    run_shape,
)
from tests.short_fit import TINY, fit
from tests.views import view_trials


class Schedules(Callback):
    """Records learning rate and entropy coefficient at each update, by iteration."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((rate, pl_module.entropy_weight))


SCHEDULES = (
    "learner.num_epochs=2",
    "learner.learning_rate=0.01",
    "learner.final_learning_rate=0.005",
    "learner.entropy_coefficient=0.0",
    "learner.final_entropy_coefficient=0.2",
)


@pytest.mark.parametrize("iterations", [5, 3])
def test_schedules_follow_the_budget_of_env_steps(tmp_path: Path, iterations: int) -> None:
    schedules = Schedules()
    fit(tmp_path, schedules, *SCHEDULES, f"trainer.max_epochs={iterations}")
    # Five iterations fit the budget, with four updates each; running fewer does not stretch
    # schedules.
    expected = [(0.01 - 0.001 * i, 0.04 * i) for i in range(iterations) for _ in range(4)]
    assert [pytest.approx(pair) for pair in expected] == schedules.seen


def test_schedules_go_on_where_a_checkpoint_left_off(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path, *TINY, *SCHEDULES)
    data = build_data(cfg)
    learner, other = build_learner(cfg, data), build_learner(cfg, data)
    env = data.world.make_trials(6, torch.device("cpu"))
    for _ in range(3):
        learner.prepare(collect(env, learner), [0])
    assert learner.progress == pytest.approx(3 / 5)
    other.load_state_dict(learner.state_dict())
    assert other.progress == learner.progress
    assert other.entropy_coefficient == learner.entropy_coefficient == pytest.approx(0.12)
    assert other.clock.env_steps == learner.clock.env_steps == 3 * 6 * 4


def test_a_training_from_weights_counts_anew() -> None:
    env = bandit_trials(4)
    trained, fresh = (make_learner(make_agent(env, seed=seed), env) for seed in (0, 1))
    for _ in range(3):
        trained.prepare(collect(env, trained), [0])
    fresh.take_weights(trained.state_dict())
    assert (fresh.clock.iterations, fresh.clock.env_steps) == (0, 0)
    for name, tensor in trained.state_dict().items():
        assert name.startswith("clock.") or torch.equal(fresh.state_dict()[name], tensor)
    assert int(fresh.value_scale.trial_steps) == 6


@pytest.mark.parametrize(("learner", "separate"), CRITICS)
@pytest.mark.parametrize("memory", MEMORIES)
def test_state_dict_holds_each_parameter_once(learner: str, memory: str, separate: bool) -> None:
    env = bandit_trials(5)
    agent = make_agent(env, memory, **agent_settings(learner))
    teacher = make_learner(agent, env, learner, critic={"separate": separate})
    before = teacher.state_dict().keys()
    minibatch = minibatch_of(teacher, env)
    gradients(teacher, minibatch)  # losses are built at their first use
    teacher.configure_optimizers()
    state = teacher.state_dict()
    assert state.keys() == before
    stored = [tensor.data_ptr() for tensor in state.values() if tensor.numel()]
    assert len(stored) == len(set(stored))
    of_agent = {name for name in state if name.startswith("agent.")}
    assert of_agent == {f"agent.{name}" for name in teacher.agent.state_dict()}


@pytest.mark.parametrize(("learner", "separate"), CRITICS)
def test_optimiser_holds_each_parameter_once(learner: str, separate: bool) -> None:
    env = bandit_trials(5)
    agent = make_agent(env, **agent_settings(learner))
    teacher = make_learner(agent, env, learner, critic={"separate": separate})
    optimizers = teacher.configure_optimizers()
    groups = [
        group
        for one in (optimizers if isinstance(optimizers, list) else [optimizers])
        for group in one.param_groups
    ]
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(found) == len(set(found))
    # TRPO's policy takes steps of its own.
    learnt = teacher.critic if learner == "trpo" else teacher
    assert set(found) == {id(parameter) for parameter in learnt.parameters()}


def test_checkpoints_are_full_of_these_names() -> None:
    env = bandit_trials(5)
    names = make_learner(make_agent(env), env).state_dict().keys()
    gru = [f"{kind}_{to}h_l0" for kind in ("weight", "bias") for to in "ih"]
    assert list(names) == [
        *(f"agent.memory.gru.{name}" for name in gru),
        "agent.policy.layers.0.weight",
        "agent.policy.layers.0.bias",
        "clock.iterations_done",
        "clock.env_steps_done",
        "critic.of_features.weight",
        "critic.of_features.bias",
        "critic.of_elapsed.weight",
        "value_scale.running_mean",
        "value_scale.running_mean_sq",
        "value_scale.debiasing_term",
        "value_scale.trial_steps",
    ]


def test_statistics_of_values_ignore_masked_steps() -> None:
    env = corridor_trials(12)
    learner = make_learner(make_agent(env), env)
    trials = collect(env, learner)
    steps = learner.critic.add_values(trials, [0])[keys.STEPS]
    mask = steps[keys.MASK]
    assert 0.1 < mask.float().mean() < 0.9
    changed = trials.clone()
    changed[keys.STEPS, keys.REWARD] = torch.where(mask, steps[keys.REWARD], 1e6)
    changed[keys.STEPS, keys.FEATURES] = torch.where(mask, trials[keys.STEPS, keys.FEATURES], 1e6)
    _, targets = trial_advantages(
        clear_idle_steps(trials, [0])[keys.STEPS],
        learner.values_of(steps),
        gamma=learner.settings.gamma,
        gae_lambda=learner.settings.gae_lambda,
    )
    counted = targets[mask]
    for data in (trials, changed):
        learner = make_learner(make_agent(env), env, value_norm_decay=0.0)
        prepared = learner.prepare(data, [0])[keys.STEPS]
        scale = learner.value_scale
        torch.testing.assert_close(scale.denormalize(torch.zeros(1)), counted.mean().view(1))
        spread = scale.denormalize(torch.ones(1)) - scale.denormalize(torch.zeros(1))
        torch.testing.assert_close(spread, counted.std(correction=0).view(1), rtol=1e-3, atol=0)
        normalised = prepared[keys.VALUE_TARGET][mask]
        torch.testing.assert_close(normalised.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)


def test_the_value_scale_follows_the_length_of_trials() -> None:
    env = corridor_trials(12)
    stage = StageConfig(env_steps=30, num_trials=1, trial_length=5)
    collection = CollectionConfig(
        num_trials=1, total_env_steps=60, curriculum={"short": stage}, window=None, burn_in=0
    )
    # Six short iterations, and then one whose trials are three times as long.
    learner = make_learner(make_agent(env), env, plan=CollectionPlan(collection, 15, 1))
    followed: list[int] = []
    learner.value_scale.follow = followed.append
    for iteration in (0, 5, 6, 7):
        learner.clock.iterations_done.fill_(iteration)
        learner.prepare(collect(env, learner), [0])
    assert followed == [5, 5, 15, 15]


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials, point_trials, view_trials])
@pytest.mark.parametrize("separate", [False, True])
def test_collected_trials_stay_as_they_are(make_trials, separate: bool) -> None:
    env = make_trials(5)
    learner = make_learner(make_agent(env), env, critic={"separate": separate})
    trials = collect(env, learner)
    kept = trials.clone()
    learner.prepare(trials, [0])
    assert set(trials.keys(True, True)) == set(kept.keys(True, True))
    assert (trials == kept).all()


@pytest.mark.parametrize("learner", ACTOR_CRITICS)
def test_a_minibatch_of_idle_steps_teaches_nothing(learner: str) -> None:
    env = corridor_trials(6)
    teacher = make_learner(make_agent(env, **agent_settings(learner)), env, learner)
    minibatch = minibatch_of(teacher, env)
    mask = minibatch[keys.WINDOW, keys.MASK]
    minibatch[keys.WINDOW, keys.MASK] = torch.zeros_like(mask)
    loss = teacher.window_loss(minibatch)
    assert loss == 0
    loss.backward()
    assert all((parameter.grad == 0).all() for parameter in teacher.parameters())


@pytest.mark.parametrize("learner", ACTOR_CRITICS)
def test_env_steps_are_counted_without_idle_steps(learner: str) -> None:
    env = corridor_trials(12)
    teacher = make_learner(make_agent(env, **agent_settings(learner)), env, learner)
    trials = collect(env, teacher)
    played = int(trials[keys.STEPS, keys.MASK].sum())
    assert 0 < played < trials[keys.STEPS].numel()
    for times in (1, 2):
        teacher.prepare(trials, [0])
        assert teacher.clock.env_steps == times * played
        assert teacher.clock.iterations == times


@pytest.mark.parametrize("learner", ACTOR_CRITICS)
def test_minibatches_weigh_by_their_steps(learner: str) -> None:
    # The mean of the minibatches' gradients, which Adam sees one by one, is the whole batch's.
    env = corridor_trials(12)
    teacher = make_learner(
        make_agent(env, **agent_settings(learner)), env, learner, num_minibatches=3
    )
    windows = as_minibatch(teacher, env, teacher.prepare(collect(env, teacher), [0]))
    parts = [teacher.window_loss(part) for part in windows.chunk(3)]
    whole = teacher.window_loss(windows) / 3
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    sizes = {int(part[keys.WINDOW, keys.MASK].sum()) for part in windows.chunk(3)}
    assert len(sizes) > 1


def test_a_reward_that_is_not_finite_stops_the_run() -> None:
    env = bandit_trials(6)
    learner = make_learner(make_agent(env), env)
    trials = collect(env, learner)
    trials[keys.STEPS, keys.REWARD][2, 1] = torch.inf
    with pytest.raises(NonFiniteLossError, match="a collected reward or value is inf after 0 env"):
        learner.prepare(trials, [0])


@pytest.mark.parametrize(
    ("num_trials", "ranks", "told"),
    [
        (20, 1, r"^collection.num_trials=20 does not divide into learner.num_minibatches=8 on 1 "),
        (24, 2, r"on 2 device\(s\): set collection.num_trials=(16|32)$"),
    ],
)
def test_trials_divide_into_minibatches_and_ranks(num_trials: int, ranks: int, told: str) -> None:
    env = bandit_trials(4)
    settings = make_learner(make_agent(env), env, num_minibatches=8).settings
    settings.check_run(run_shape(32, ranks))
    with pytest.raises(UserError, match=told):
        settings.check_run(run_shape(num_trials, ranks))
