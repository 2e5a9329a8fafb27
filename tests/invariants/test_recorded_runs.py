"""Runs whose operations are recorded equal those that start each operation from Python."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from rl2_lightning import keys
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.data.collector import TrialCollector
from rl2_lightning.errors import NonFiniteLossError
from tests.builders import (
    MEMORIES,
    bandit_trials,
    compose_config,
    gradients,
    make_agent,
    make_learner,
    minibatch_of,
)
from tests.emulated_graphs import emulate
from tests.invariants.test_runs import PPO, TINY, contents, train

GRAPHS = "trainer.cuda_graphs=true"
# With a small epsilon, Adam makes the rounding of a gradient near zero as large as a step.
STEADY = "learner.adam_epsilon=0.01"
SHORT = ("env.horizon=5", "trial.episodes_per_trial=2")
VARIANTS = {
    "default": (),
    "sees_task": ("learner.critic.sees_task=true", "learner.critic.separate=true"),
    "entropy": ("learner.entropy_coefficient=1.0",),
    "clips": ("learner.value_clip=0.2", "learner.target_kl=0.05"),
    "mdp": ("env=tabular_mdp", "env.horizon=2", "trial.episodes_per_trial=5"),
    "windows": ("collection.window=5", "collection.burn_in=2"),
    "padded": ("collection.window=4",),
    "curriculum": (
        "+collection.curriculum={short: {env_steps: 640, num_trials: 64, trial_length: 5}}",
        "collection.total_env_steps=1600",
    ),
    "continuous": ("env=pendulum", *SHORT, "agent.normalised=[observation,reward]"),
    "ending early": (
        *("env=cart_pole", "env.horizon=40", "trial.episodes_per_trial=1"),
        "collection.total_env_steps=3840",
    ),
    "continuing": (
        *("env=pendulum", "env.horizon=20", "trial.episodes_per_trial=null"),
        *("trial.steps_per_trial=10", "trial.continues=true"),
    ),
    "embedding": ("agent.discount_embedding=4",),
    "action queries": ("agent.policy_head=action_queries", "agent.policy_hidden_sizes=[16]"),
    "hypernetwork": ("agent.policy_head=hypernetwork",),
    "belief": ("agent.belief.form=samples",),
}
RECORDED = {"curriculum": 4, "padded": 1, "ending early": 1}  # graphs of a run; of others 2


def assert_close_runs(left: Path, right: Path) -> None:
    """Assert that the weights of two runs differ by no more than rounding."""
    one, two = (contents(path)["state_dict"] for path in (left, right))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=1e-4, rtol=1e-3)


def compare(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> int:
    """Compare a recorded run with a plain one, and return how often something was recorded."""
    settings = (*TINY, *PPO, STEADY, *overrides)
    plain = train(compose_config(folder / "plain", *settings))
    recorded = emulate(monkeypatch)
    graphs = train(compose_config(folder / "graphs", *settings, GRAPHS))
    assert_close_runs(plain, graphs)
    return len(recorded)


def quick(names: Iterable[str], *chosen: str) -> list[Any]:
    """The names as parameters, of which all but the chosen ones are slow."""
    marks = {True: (), False: (pytest.mark.slow,)}
    return [pytest.param(name, marks=marks[name in chosen]) for name in names]


@pytest.mark.parametrize("memory", MEMORIES)
def test_an_iteration_with_each_memory(monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    recorded = emulate(monkeypatch)
    env = bandit_trials(8)
    learner = make_learner(make_agent(env, memory), env, "ppo")
    rewards = {}
    for uses_graphs in (False, True):
        collector = TrialCollector(env, learner.agent, uses_graphs=uses_graphs)
        for seed in (1, 2):
            collector.seed(seed, 10 + seed)
            rewards[uses_graphs, seed] = collector.rollout()[keys.STEPS, keys.REWARD].clone()
    for seed in (1, 2):
        assert torch.equal(rewards[False, seed], rewards[True, seed])
    minibatch = minibatch_of(learner, env)
    plain = gradients(learner, minibatch)
    learner.uses_graphs = True
    for _ in range(2):
        torch.testing.assert_close(gradients(learner, minibatch), plain, atol=1e-5, rtol=1e-4)
    assert len(recorded) == 2


@pytest.mark.parametrize("memory", quick(MEMORIES, "gru"))
def test_each_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    assert compare(tmp_path, monkeypatch, f"memory={memory}") == 2


@pytest.mark.parametrize("variant", quick(VARIANTS, "entropy", "mdp", "windows", "continuous"))
def test_each_kind_of_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    num = compare(tmp_path, monkeypatch, "memory=min_gru", *VARIANTS[variant])
    assert num == RECORDED.get(variant, 2)


def test_numbers_that_are_not_finite_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulate(monkeypatch)
    settings = (*TINY, *PPO, GRAPHS, "memory=min_gru", "learner.learning_rate=1e30")
    with pytest.raises(NonFiniteLossError, match=r"(norm|loss) is .* after 320 env steps: lower"):
        train(compose_config(tmp_path, *settings))
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("first", [(), (GRAPHS,)])
def test_a_resumed_run_chooses_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: tuple[str, ...]
) -> None:
    emulate(monkeypatch)
    then = () if first else (GRAPHS,)
    settings = (*TINY, *PPO, "memory=min_gru", STEADY)
    half = train(compose_config(tmp_path / "half", *settings, *first, "trainer.max_epochs=3"))
    resumed = train(compose_config(tmp_path / "resumed", *settings, *then, f"ckpt_path={half}"))
    whole = train(compose_config(tmp_path / "whole", *settings))
    assert_close_runs(whole, resumed)
    for checkpoint, graphs in ((half, first), (resumed, then)):
        (group,) = contents(checkpoint)["optimizer_states"][0]["param_groups"]
        assert bool(group["fused"]) == bool(graphs)


class Failing(Callback):
    """Ends a training with an error, in which no hook for its end is called."""

    def on_train_epoch_end(self, *_: Any) -> None:
        raise KeyError("an error of somebody else")


@pytest.mark.parametrize("failing", [False, True])
def test_a_learner_is_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    recorded = emulate(monkeypatch)
    cfg = compose_config(tmp_path, *TINY, *PPO, GRAPHS, "memory=min_gru", "trainer.max_epochs=1")
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    first = build_trainer(cfg, data, learner)
    first.callbacks.extend([Failing()] * failing)
    with pytest.raises(KeyError) if failing else nullcontext():
        first.fit(learner, data)
    build_trainer(cfg, data, learner).fit(learner, data)
    assert sum("loss" in str(function) for function in recorded) == 2, "weights are elsewhere"


def test_a_critic_of_nan_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(monkeypatch)
    cfg = compose_config(tmp_path, *TINY, *PPO, GRAPHS, "memory=min_gru")
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    learner.critic.of_features.bias.data.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match="a collected reward or value is nan"):
        build_trainer(cfg, data, learner).fit(learner, data)
