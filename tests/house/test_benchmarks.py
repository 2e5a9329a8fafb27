"""The benchmarks run; their output depends on the machine."""

import pytest
import torch
from hydra import initialize_config_dir

from benchmarks.families import CONFIGS, FAMILIES, collecting_rate
from benchmarks.gymnasium import compare
from benchmarks.memories import MEMORIES, megabytes_to_learn, seconds_to_learn
from benchmarks.rendering import frames_per_second
from rl2_lightning.config import register_schemas


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_collected(family: str) -> None:
    register_schemas()
    few = ["collection.num_trials=8", "trial.steps_per_trial=3", "trainer.max_epochs=3"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        assert collecting_rate(family, [*few, "trainer.accelerator=cpu"]) > 0


def test_mazes_are_rendered() -> None:
    assert frames_per_second(3, torch.device("cpu"), num_mazes=2) > 0


@pytest.mark.parametrize("backend", ["batched", "vector"])
def test_gymnasium_is_played(backend: str) -> None:
    rates = compare("CartPole-v1", backend, num_envs=2, num_steps=3, repetitions=1)
    assert min(rates) > 0


def test_every_memory_is_learnt_with() -> None:
    seconds = seconds_to_learn(MEMORIES, num_trials=2, num_steps=5, repetitions=1)
    assert set(seconds) == set(MEMORIES)
    assert min(seconds.values()) > 0
    assert megabytes_to_learn(MEMORIES[0], num_trials=2, num_steps=5) >= 0
