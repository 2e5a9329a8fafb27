"""Runs on a GPU: on-policy, resumable, in each precision, with checkpoints for every machine."""

import json
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from rl2_lightning.agents.agent import Agent
from rl2_lightning.inputs import Inputs
from tests.builders import LEARNERS, MEMORIES, compose_config
from tests.command_line.program import call_program
from tests.command_line.test_configs import EXPERIMENTS, TAKING_LONG, small_for
from tests.extras.experiments import WITH_EXTRA
from tests.extras.packages import needs
from tests.invariants.test_resume import RESUMED
from tests.invariants.test_runs import (
    PPO,
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
    more = (f"memory={memory}", f"trainer.precision={precision}", "learner.learning_rate=0.01")
    train(compose_config(tmp_path, *TINY, *PPO, *ON_GPU, *more), watch)
    assert len(watch.errors) == 6
    assert max(watch.errors) < ROUNDING[precision]
    for before, after in pairwise(watch.versions):
        assert (before - after).abs().max() > 1e-3


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
def test_an_agent_of_a_gpu_acts_alike_on_a_cpu(tmp_path: Path, memory: str) -> None:
    last = train(compose_config(tmp_path, *TINY, *PPO, *ON_GPU, f"memory={memory}"))
    on_cpu = Agent.load(last)
    on_gpu = deepcopy(on_cpu).cuda()
    stored = contents(last)["state_dict"]
    for name, parameter in on_cpu.named_parameters():
        assert torch.equal(parameter, stored[f"agent.{name}"].cpu()), name
    inputs = on_cpu.first_inputs(torch.zeros(20, 1))
    states = [agent.initial_state(20) for agent in (on_cpu, on_gpu)]
    for step in range(10):
        expected = on_cpu.act(inputs, states[0], greedy=True)
        given = Inputs(*(entry.cuda() for entry in inputs))
        found = on_gpu.act(given, states[1], greedy=True)
        torch.testing.assert_close(
            found.log_probability.cpu(), expected.log_probability, atol=1e-4, rtol=1e-3
        )
        states = [expected.state, found.state]
        reward = torch.rand(20, 1, generator=torch.Generator().manual_seed(step))
        done = torch.ones(20, 1)
        inputs = on_cpu.next_inputs(inputs, expected.action, torch.zeros(20, 1), reward, done)


@pytest.mark.parametrize("memory", ["gru", "matrix"])
def test_a_run_of_a_gpu_is_tested_on_a_cpu(tmp_path: Path, memory: str) -> None:
    given = (*TINY, *PPO, f"memory={memory}")
    (trained := tmp_path / "gpu").mkdir()
    call_program(trained, *given, *ON_GPU, f"hydra.run.dir={trained}")
    (tested := tmp_path / "cpu").mkdir()
    on_cpu = ("mode=test", "trainer.accelerator=cpu", f"ckpt_path={trained / 'last.ckpt'}")
    call_program(tested, *given, *on_cpu, f"hydra.run.dir={tested}")
    found = [json.loads((folder / "summary.json").read_text()) for folder in (trained, tested)]
    assert [one["num_tasks"] for one in found] == [16, 16]


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=needs(WITH_EXTRA[name]) if name in WITH_EXTRA else [])
        for name in EXPERIMENTS
        if name not in TAKING_LONG
    ],
)
def test_experiment_runs(tmp_path: Path, experiment: str) -> None:
    given = (f"experiment={experiment}", "start_from=null")
    call_program(tmp_path, *small_for(*given), *given, *ON_GPU, f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "last.ckpt").exists()
