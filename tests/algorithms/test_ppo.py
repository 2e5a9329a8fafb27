"""The terms of the loss, the schedules, the early stop, and what masked steps may not touch."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.algorithms.advantages import clear_idle_steps, trial_advantages
from rl2_lightning.algorithms.ppo import PPO
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.collection.plan import CollectionPlan
from rl2_lightning.config import CollectionConfig, StageConfig
from tests.builders import (
    SETTINGS,
    as_minibatch,
    bandit_trials,
    collect,
    compose_config,
    corridor_trials,
    gradients,
    make_network,
    make_ppo,
)

TINY = (
    "collection.num_trials=16",
    "collection.total_env_steps=320",  # 5 iterations of 64 steps
    "trial.episodes_per_trial=4",
    "algorithm.num_epochs=2",
    "algorithm.num_minibatches=2",
    "network.memory.hidden_size=4",
    "network.separate=false",
    "network.critic_sees_task=false",
    "evaluation.validation_tasks=4",
    "evaluation.test_tasks=4",
    "trainer.accelerator=cpu",
    "callbacks={}",
    "logger={}",
)


def train(folder: Path, callback: Callback, *overrides: str) -> PPO:
    cfg = compose_config(folder, *TINY, *overrides)
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data)
    trainer.callbacks = [callback]
    trainer.fit(learner, data)
    assert isinstance(learner, PPO)
    return learner


def moved_learner(**changes: object) -> tuple[PPO, TensorDictBase, TensorDictBase]:
    """A learner whose weights have moved since collection; its minibatch and the steps in it."""
    env = corridor_trials(20)
    network = make_network(env)
    learner = make_ppo(network, env, **changes)
    minibatch = as_minibatch(learner.prepare_trials(collect(env, network)), network)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        steps = learner._steps_with_loss(minibatch)
    return learner, minibatch, steps


def noted(learner: PPO, minibatch: TensorDictBase) -> dict[str, Tensor]:
    """The diagnostics of one minibatch."""
    learner._diagnostics.clear()
    learner.training_step(minibatch, 0)
    return {name: values[0] for name, values in learner._diagnostics.items()}


@pytest.mark.parametrize("value_clip", [None, 0.1, 100.0])
def test_value_loss_is_clipped_as_configured(value_clip: float | None) -> None:
    learner, minibatch, steps = moved_learner(value_clip=value_clip)
    old, target = steps[keys.STATE_VALUE], steps[keys.VALUE_TARGET]
    value = learner.network.critic(steps.exclude(keys.STATE_VALUE))[keys.STATE_VALUE]
    expected = (value - target).square()
    if value_clip is not None:
        clipped = old + (value - old).clamp(-value_clip, value_clip)
        expected = torch.maximum(expected, (clipped - target).square())
    plain = (value - target).square().mean()
    assert bool(expected.mean() > 1.01 * plain) is (value_clip == 0.1)
    torch.testing.assert_close(noted(learner, minibatch)["value_loss"], expected.mean())


def test_policy_loss_is_the_clipped_surrogate() -> None:
    learner, minibatch, steps = moved_learner()
    log_probs = learner.network.actor.get_dist(steps).log_prob(steps[keys.ACTION])
    ratio = (log_probs - steps[keys.ACTION_LOG_PROB]).exp()
    advantage = steps[keys.ADVANTAGE].squeeze(-1)
    clipped = ratio.clamp(1 - SETTINGS.clip_epsilon, 1 + SETTINGS.clip_epsilon)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    outside = (ratio != clipped).float().mean()
    assert 0.1 < outside < 0.9
    found = noted(learner, minibatch)
    torch.testing.assert_close(found["policy_loss"], -gain.mean())
    # Where the clip takes hold, not where the ratio is outside.
    assert 0 < found["clip_fraction"] <= outside + 1e-6
    kl = (ratio - 1 - ratio.log()).mean()
    torch.testing.assert_close(found["approximate_kl"], kl, atol=1e-4, rtol=1e-4)


def test_loss_is_the_sum_of_its_terms() -> None:
    learner, minibatch, steps = moved_learner(value_coefficient=0.7, entropy_coefficient=0.3)
    loss = learner.training_step(minibatch, 0)
    found = noted(learner, minibatch)
    entropy = learner.network.actor.get_dist(steps).entropy().mean()
    torch.testing.assert_close(found["entropy"], entropy)
    expected = found["policy_loss"] + 0.7 * found["value_loss"] - 0.3 * entropy
    torch.testing.assert_close(loss, expected)


class Schedules(Callback):
    """Notes learning rate and entropy coefficient at each update, by iteration."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((rate, pl_module.ppo_loss.entropy_coeff.item()))


SCHEDULES = (
    "algorithm.learning_rate=0.01",
    "algorithm.final_learning_rate=0.005",
    "algorithm.entropy_coefficient=0.0",
    "algorithm.final_entropy_coefficient=0.2",
)


@pytest.mark.parametrize("iterations", [5, 3])
def test_schedules_follow_the_budget_of_env_steps(tmp_path: Path, iterations: int) -> None:
    schedules = Schedules()
    train(tmp_path, schedules, *SCHEDULES, f"trainer.max_epochs={iterations}")
    # Five iterations fit the budget, four updates each; that fewer are run stretches nothing.
    expected = [(0.01 - 0.001 * i, 0.04 * i) for i in range(iterations) for _ in range(4)]
    assert [pytest.approx(pair) for pair in expected] == schedules.seen


def test_schedules_go_on_where_a_checkpoint_left_off(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path, *TINY, *SCHEDULES)
    data = build_data(cfg)
    learner, other = build_learner(cfg, data), build_learner(cfg, data)
    for _ in range(3):
        learner.prepare_trials(collect(bandit_trials(4), make_network(bandit_trials(4))))
    assert learner.progress == pytest.approx(3 / 5)
    other.load_state_dict(learner.state_dict())
    assert other.progress == learner.progress
    assert other.env_steps == learner.env_steps == 3 * 4 * 6


class Updates(Callback):
    """Notes weights and Adam's state after each minibatch."""

    def __init__(self) -> None:
        self.seen: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        optimizer = trainer.optimizers[0]
        state = [value for entry in optimizer.state.values() for value in entry.values()]
        tensors = [*pl_module.network.parameters(), *state]
        self.seen.append([tensor.detach().clone() for tensor in tensors])


@pytest.mark.parametrize(("target_kl", "updates"), [(1e-6, 1), (1e6, 4), ("null", 4)])
def test_stop_leaves_weights_and_adam_alone(
    tmp_path: Path, target_kl: float | str, updates: int
) -> None:
    watch = Updates()
    train(
        tmp_path,
        watch,
        f"algorithm.target_kl={target_kl}",
        "algorithm.learning_rate=0.05",
        "algorithm.final_learning_rate=0.05",
        "trainer.max_epochs=2",
    )
    assert len(watch.seen) == 2 * 4
    for first in (0, 4):
        for number in range(first + 1, first + 4):
            pairs = list(zip(watch.seen[number - 1], watch.seen[number], strict=True))
            same = [torch.equal(before, after) for before, after in pairs]
            assert all(same) is (number >= first + updates)
    # Each iteration starts learning anew.
    assert not all(map(torch.equal, watch.seen[3], watch.seen[4]))


def test_stop_lasts_for_the_rest_of_the_iteration() -> None:
    env = corridor_trials(20)
    network = make_network(env)
    learner = make_ppo(network, env, target_kl=1e-3)
    minibatch = as_minibatch(learner.prepare_trials(collect(env, network)), network)
    collected_with = deepcopy(network.state_dict())
    assert learner.training_step(minibatch, 0).grad_fn is not None
    with torch.no_grad():
        next(network.actor.parameters())[0].add_(1.0)
    assert learner.training_step(minibatch, 1).grad_fn is None
    # A later minibatch may be close to the old policy again: it is left out all the same.
    network.load_state_dict(collected_with)
    assert learner.training_step(minibatch, 2).grad_fn is None


def test_statistics_of_values_ignore_masked_steps() -> None:
    env = corridor_trials(12)
    trials = collect(env, make_network(env))
    mask = trials[keys.MASK]
    assert 0.1 < mask.float().mean() < 0.9
    changed = trials.clone()
    for key in (keys.REWARD, keys.STATE_VALUE):
        changed[key] = torch.where(mask, trials[key], 1e6)
    values = make_ppo(make_network(env), env)._values(trials)
    _, targets = trial_advantages(
        clear_idle_steps(trials.clone()),
        values,
        gamma=SETTINGS.gamma,
        gae_lambda=SETTINGS.gae_lambda,
    )
    counted = targets[mask]
    for data in (trials, changed):
        learner = make_ppo(make_network(env), env, value_norm_decay=0.0)
        prepared = learner.prepare_trials(data.clone())
        scale = learner.value_norm
        torch.testing.assert_close(scale.denormalize(torch.zeros(1)), counted.mean().view(1))
        spread = scale.denormalize(torch.ones(1)) - scale.denormalize(torch.zeros(1))
        torch.testing.assert_close(spread, counted.std(correction=0).view(1), rtol=1e-3, atol=0)
        normalised = prepared[keys.VALUE_TARGET][mask]
        torch.testing.assert_close(normalised.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)


def test_the_value_scale_is_stretched_where_trials_become_longer() -> None:
    env = corridor_trials(12)
    network = make_network(env)
    stage = StageConfig(env_steps=30, num_trials=1, trial_length=5)
    collection = CollectionConfig(
        num_trials=1, total_env_steps=60, curriculum={"short": stage}, window=None, burn_in=0
    )
    # Six short iterations, and then one whose trials are three times as long.
    learner = make_ppo(network, env, plan=CollectionPlan(collection, 15, 1))
    learner.value_norm.update(torch.tensor([[1.0], [3.0]]))
    marks = torch.tensor([-1.0, 0.0, 1.0])
    before = learner.value_norm.denormalize(marks)
    for iteration, factor in ((0, 1), (5, 1), (6, 3), (7, 1)):
        learner.iterations_collected.fill_(iteration)
        learner._follow_trial_length()
        after = learner.value_norm.denormalize(marks)
        torch.testing.assert_close(after, factor * before, rtol=1e-4, atol=0)
        before = after


def test_the_value_loss_is_clipped_around_what_the_critic_gave() -> None:
    env = corridor_trials(12)
    network = make_network(env)
    learner = make_ppo(network, env, value_clip=0.2)
    trials = collect(env, network)
    minibatch = as_minibatch(learner.prepare_trials(trials.clone()), network)
    losses = learner.ppo_loss(learner._steps_with_loss(minibatch))
    # Before the first update the critic has not moved, however much the scale has.
    assert losses["value_clip_fraction"] == 0


def test_a_minibatch_of_idle_steps_teaches_nothing() -> None:
    env = corridor_trials(6)
    network = make_network(env)
    learner = make_ppo(network, env, target_kl=0.1)
    minibatch = as_minibatch(learner.prepare_trials(collect(env, network)), network)
    minibatch[keys.WINDOW][keys.MASK] = torch.zeros_like(minibatch[keys.WINDOW][keys.MASK])
    assert all((gradient == 0).all() for gradient in gradients(learner, minibatch).values())


def test_env_steps_are_counted_without_idle_steps() -> None:
    env = corridor_trials(12)
    network = make_network(env)
    learner = make_ppo(network, env)
    trials = collect(env, network)
    played = int(trials[keys.MASK].sum())
    assert 0 < played < trials.numel()
    for times in (1, 2):
        learner.prepare_trials(trials.clone())
        assert learner.env_steps == times * played
        assert learner.iteration == times


def test_minibatches_weigh_by_their_steps() -> None:
    # The gradients of the parts, as Adam sees them one by one, are on average that of the whole.
    env = corridor_trials(12)
    network = make_network(env)
    learner = make_ppo(network, env, num_minibatches=3)
    windows = as_minibatch(learner.prepare_trials(collect(env, network)), network)
    parts = [learner.training_step(part, 0) for part in windows.chunk(3)]
    whole = learner.training_step(windows, 0) / 3
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    sizes = {int(part[keys.WINDOW][keys.MASK].sum()) for part in windows.chunk(3)}
    assert len(sizes) > 1
