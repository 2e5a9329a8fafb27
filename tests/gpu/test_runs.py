"""Runs on a GPU: on-policy, resumable, in each precision, with checkpoints for every machine."""

import json
from pathlib import Path

import pytest
import torch

from rl2_lightning.agents.agent import Agent
from tests.builders import LEARNERS, MEMORIES, ROOT, compose_config
from tests.command_line.program import call_program
from tests.command_line.test_configs import EXPERIMENTS, TAKING_LONG, small_for
from tests.invariants.test_runs import (
    PPO,
    RESUMED,
    TINY,
    RatioOfFirstMinibatch,
    assert_same_run,
    contents,
    of_learner,
    train,
)

ON_GPU = ("trainer.accelerator=gpu",)
# How far two roundings of a log-probability may be apart.
ROUNDING = {"32-true": 1e-3, "bf16-mixed": 0.1, "16-mixed": 0.02}


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("memory", MEMORIES)
def test_first_iteration_is_on_policy(tmp_path: Path, memory: str, precision: str) -> None:
    watch = RatioOfFirstMinibatch()
    more = (f"memory={memory}", f"trainer.precision={precision}")
    train(compose_config(tmp_path, *TINY, *PPO, *ON_GPU, *more), watch)
    assert len(watch.errors) == 6
    assert max(watch.errors) < ROUNDING[precision]


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_learner_in_bfloat16(tmp_path: Path, learner: str) -> None:
    more = (*of_learner(learner), "trainer.precision=bf16-mixed")
    last = train(compose_config(tmp_path, *TINY, *ON_GPU, *more))
    for name, tensor in contents(last)["state_dict"].items():
        assert tensor.dtype != torch.bfloat16, name
        assert tensor.isfinite().all(), name


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("overrides", RESUMED.values(), ids=RESUMED.keys())
def test_resume_is_bitwise(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    settings = (*TINY, *overrides, *ON_GPU)
    whole = train(compose_config(tmp_path / "whole", *settings))
    half = train(compose_config(tmp_path / "half", *settings, "trainer.max_epochs=3"))
    resumed = train(compose_config(tmp_path / "resumed", *settings, f"ckpt_path={half}"))
    assert_same_run(whole, resumed)


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_checkpoint_of_a_gpu_is_tested_and_used_on_a_cpu(tmp_path: Path, memory: str) -> None:
    overrides = [*TINY, *PPO, f"memory={memory}", "evaluation.test_tasks=500"]
    given = [text for text in overrides if "accelerator" not in text]
    (trained := tmp_path / "gpu").mkdir()
    call_program(trained, *given, *ON_GPU, f"hydra.run.dir={trained}")
    (tested := tmp_path / "cpu").mkdir()
    on_cpu = ("mode=test", "trainer.accelerator=cpu", f"ckpt_path={trained / 'last.ckpt'}")
    call_program(tested, *given, *on_cpu, f"hydra.run.dir={tested}")
    found = [json.loads((folder / "summary.json").read_text()) for folder in (trained, tested)]
    returns = [one["agent"]["greedy"] for one in found]
    spread = sum(one["trial_half_width"] for one in returns)
    assert abs(returns[0]["trial_return"] - returns[1]["trial_return"]) < 1.5 * spread
    agent = Agent.load(trained / "last.ckpt")
    assert all(parameter.device.type == "cpu" for parameter in agent.parameters())


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name not in TAKING_LONG])
def test_experiment_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str) -> None:
    monkeypatch.chdir(ROOT)
    given = (f"experiment={experiment}", "start_from=null")
    small = [text for text in small_for(*given) if "accelerator" not in text]
    call_program(tmp_path, *small, *given, *ON_GPU, f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "last.ckpt").exists()
