"""Runs whose operations are recorded equal those that start each operation from Python."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning.errors import NonFiniteLossError
from tests.builders import MEMORIES, compose_config
from tests.emulated_graphs import emulate
from tests.invariants.test_runs import PPO, TINY, contents, train

GRAPHS = "trainer.cuda_graphs=true"
# With a small epsilon, Adam makes the rounding of a gradient near zero as large as a step.
STEADY = "learner.adam_epsilon=0.01"
VARIANTS = {
    "default": (),
    "sees_task": ("learner.critic.sees_task=true", "learner.critic.separate=true"),
    "mdp": ("env=tabular_mdp", "env.horizon=2", "trial.episodes_per_trial=5"),
    "windows": ("collection.window=5", "collection.burn_in=2"),
    "curriculum": (
        "+collection.curriculum={short: {env_steps: 640, num_trials: 64, trial_length: 5}}",
        "collection.total_env_steps=1600",
    ),
    "normalised": (
        "env=pendulum",
        "env.horizon=10",
        "agent.normalised=[observation,reward]",
        "trial.episodes_per_trial=1",
    ),
}


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


@pytest.mark.parametrize("memory", quick(MEMORIES, "gru", "lstm"))
def test_each_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    assert compare(tmp_path, monkeypatch, f"memory={memory}") == 2


@pytest.mark.parametrize("variant", quick(VARIANTS, "mdp", "windows"))
def test_each_kind_of_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    num_stages = 2 if variant == "curriculum" else 1
    assert compare(tmp_path, monkeypatch, "memory=min_gru", *VARIANTS[variant]) == 2 * num_stages


def test_numbers_that_are_not_finite_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulate(monkeypatch)
    settings = (*TINY, *PPO, GRAPHS, "memory=min_gru", "learner.learning_rate=1e30")
    with pytest.raises(NonFiniteLossError, match=r"(norm|loss) is .* after 320 env steps: lower"):
        train(compose_config(tmp_path, *settings))
    assert not (tmp_path / "last.ckpt").exists()
