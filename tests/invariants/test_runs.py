"""Whole runs: on policy, resumable, reproducible, the same over ranks, on fixed held-out tasks."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig

from rl2_lightning import keys
from rl2_lightning.build import build_data, build_learner, build_trainer
from tests.builders import ROOT, attach, compose_config

TINY = (
    "collection.num_trials=32",
    "collection.total_env_steps=1920",  # 6 iterations of 10 steps
    "algorithm.num_epochs=2",
    "algorithm.num_minibatches=2",
    "network.memory.hidden_size=16",
    "network.separate=false",
    "network.critic_sees_task=false",
    "evaluation.validation_tasks=16",
    "evaluation.test_tasks=16",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=2",
    "callbacks.checkpoint.every_n_epochs=1",
)


# The first three of six iterations play shorter trials, so that resuming falls between stages.
CURRICULUM = "+collection.curriculum={short:{env_steps:960,num_trials:64,trial_length:5}}"


def train(cfg: DictConfig, *callbacks: Callback) -> Path:
    """Runs the training of a config in this process; returns its last checkpoint."""
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data)
    trainer.callbacks.extend(callbacks)
    trainer.fit(learner, data, ckpt_path=cfg.ckpt_path, weights_only=True)
    return Path(cfg.output_dir) / "last.ckpt"


def command(output_dir: Path, *overrides: str) -> list[str]:
    arguments = [f"hydra.run.dir={output_dir}", *TINY, *overrides]
    return [sys.executable, str(ROOT / "train.py"), *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def contents(path: Path) -> dict[str, object]:
    return torch.load(path, weights_only=True)


def assert_same_run(left: Path, right: Path) -> None:
    """Same parameters, buffers, optimiser and counters, bit for bit."""
    one, two = contents(left), contents(right)
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, two["state_dict"][name]), name
    states = [c["optimizer_states"][0]["state"] for c in (one, two)]
    for index, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][index][name]), (index, name)
    assert one["epoch"] == two["epoch"]
    assert one["global_step"] == two["global_step"]


def validations(folder: Path) -> list[list[str]]:
    """The agent's rows of the adaptation curves of all validations."""
    with (folder / "adaptation_curve.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    return [row for row in rows if row[0] == "validation" and row[3].startswith("agent")]


class RatioOfFirstMinibatch(Callback):
    """Notes how far collected log-probabilities are from those of the current weights."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.versions: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 0:
            with torch.no_grad():
                steps = pl_module._steps_with_loss(batch)
                log_probs = pl_module.network.actor.get_dist(steps).log_prob(steps[keys.ACTION])
            self.errors.append((log_probs - steps[keys.ACTION_LOG_PROB]).abs().max().item())
            weights = [parameter.flatten() for parameter in pl_module.network.parameters()]
            self.versions.append(torch.cat(weights).detach().clone())


def test_first_iteration_is_on_policy(tmp_path: Path) -> None:
    watch = RatioOfFirstMinibatch()
    train(compose_config(tmp_path, *TINY, "algorithm.learning_rate=0.05"), watch)
    assert len(watch.errors) == 6
    assert max(watch.errors) < 1e-5
    for before, after in zip(watch.versions[:-1], watch.versions[1:], strict=True):
        assert (before - after).abs().max() > 1e-3


def test_same_seed_same_run(tmp_path: Path) -> None:
    first = train(compose_config(tmp_path / "first", *TINY))
    again = train(compose_config(tmp_path / "again", *TINY))
    other = train(compose_config(tmp_path / "other", *TINY, "seed=2"))
    assert_same_run(first, again)
    name = "network.memories.shared.gru.weight_hh_l0"
    assert not torch.equal(contents(first)["state_dict"][name], contents(other)["state_dict"][name])


@pytest.mark.parametrize(
    "overrides",
    [(), (CURRICULUM,), ("network.critic_sees_task=true",)],
    ids=["plain", "curriculum", "critic sees task"],
)
def test_resume_is_bitwise(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    settings = (*TINY, *overrides)
    whole = train(compose_config(tmp_path / "whole", *settings))
    half = train(compose_config(tmp_path / "half", *settings, "trainer.max_epochs=3"))
    # A new process, so that nothing lives on but the checkpoint.
    resumed = tmp_path / "resumed"
    subprocess.run(
        command(resumed, f"ckpt_path={half}", *overrides),
        check=True,
        env=environment(),
        cwd=tmp_path,
    )
    assert_same_run(whole, resumed / "last.ckpt")
    measured = validations(resumed)
    assert {row[1] for row in measured} == {"4", "6"}
    assert measured == [row for row in validations(tmp_path / "whole") if row[1] != "2"]


def test_a_killed_run_resumes_bitwise(tmp_path: Path) -> None:
    settings = ("collection.total_env_steps=12800",)  # 40 iterations
    whole = train(compose_config(tmp_path / "whole", *TINY, *settings))
    killed = tmp_path / "killed"
    with subprocess.Popen(command(killed, *settings), env=environment(), cwd=tmp_path) as process:
        last = killed / "last.ckpt"
        while not last.exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(random.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
    reached = contents(last)["epoch"]
    resumed = tmp_path / "resumed"
    arguments = command(resumed, *settings, f"ckpt_path={last}")
    subprocess.run(arguments, check=True, env=environment(), cwd=tmp_path)
    assert_same_run(whole, resumed / "last.ckpt")
    assert reached < 40


def test_sigterm_saves_a_checkpoint(tmp_path: Path) -> None:
    settings = ("collection.total_env_steps=3200000", "callbacks.checkpoint.every_n_epochs=100000")
    run = tmp_path / "run"
    with subprocess.Popen(
        command(run, *settings), env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        # The first validation shows that iterations run.
        while not (run / "adaptation_curve.png").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"resume with ckpt_path={run / 'last.ckpt'}" in errors
    assert f"stopped after iteration {contents(run / 'last.ckpt')['epoch']};" in errors


def test_held_out_tasks_are_fixed(tmp_path: Path) -> None:
    one, two = (build_data(compose_config(tmp_path, *TINY, f"seed={seed}")) for seed in (1, 2))
    for stage in ("validation", "test"):
        left, right = (data.held_out[stage].tasks for data in (one, two))
        assert (left == right).all()
    tasks = one.held_out["validation"].tasks[keys.ARM_PROBABILITIES]
    assert not torch.isin(tasks, one.held_out["test"].tasks[keys.ARM_PROBABILITIES]).any()
    learner = build_learner(compose_config(tmp_path, *TINY), one)
    attach(one, learner)
    curves = [
        [trials[keys.REWARD] for stream in one.val_dataloader() for trials in stream]
        for _ in range(2)
    ]
    for first, second in zip(*curves, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("iteration", [0, 7])
def test_ranks_play_different_tasks(tmp_path: Path, iteration: int) -> None:
    data = build_data(compose_config(tmp_path, *TINY))
    learner = build_learner(compose_config(tmp_path, *TINY), data)
    played = []
    for rank in (0, 1):
        attach(data, learner, rank=rank, iteration=iteration)
        stream = data.train_dataloader()
        minibatches = list(stream)
        assert len(minibatches) == len(stream) == 4
        assert sum(len(minibatch) for minibatch in minibatches) == 2 * 16, "two epochs of a half"
        actions = torch.cat([m[keys.WINDOW][keys.PREVIOUS_REWARD] for m in minibatches])
        played.append(actions)
    assert not torch.equal(*played)
