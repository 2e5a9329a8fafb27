"""Whole runs are on-policy and reproducible, with fixed held-out tasks."""

import csv
import operator
from itertools import pairwise
from pathlib import Path
from warnings import catch_warnings

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig
from torch.utils._pytree import tree_flatten

from rl2_lightning import keys
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.families.bandits.env import ARM_PROBABILITIES
from rl2_lightning.learners.windows import window_features
from rl2_lightning.parts import leave_out_foreign
from tests.builders import LEARNERS, MEMORIES, attach, compose_config, known
from tests.command_line.program import UNSEEN

TINY = (
    "collection.num_trials=32",
    "collection.total_env_steps=1920",  # 6 iterations of 10 steps
    "evaluation.validation_tasks=16",
    "evaluation.test_tasks=16",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=3",
    "callbacks.checkpoint.every_n_epochs=1",
)


def of_learner(name: str) -> tuple[str, ...]:
    """Choose a learner, with few updates if that can be set."""
    few = known({"num_epochs": 2, "num_minibatches": 2, "num_updates": 4}, LEARNERS[name])
    return (f"learner={name}", *(f"learner.{field}={number}" for field, number in few.items()))


PPO = of_learner("ppo")


def train(cfg: DictConfig, *callbacks: Callback) -> Path:
    """Run the training of a config in this process, and return its last checkpoint."""
    with catch_warnings(action="ignore"):  # the experiment sets fields for PPO
        leave_out_foreign(cfg, [])
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    trainer.callbacks.extend(callbacks)
    trainer.fit(learner, data, ckpt_path=cfg.ckpt_path, weights_only=True)
    return Path(cfg.output_dir) / "last.ckpt"


def contents(path: Path) -> dict[str, object]:
    return torch.load(path, weights_only=True)


def assert_same_run(left: Path, right: Path) -> None:
    """Assert bitwise equal parameters, buffers, optimisers and counters."""
    one, two = contents(left), contents(right)
    for part in ("state_dict", "optimizer_states"):
        (mine, structure), (theirs, other) = tree_flatten(one[part]), tree_flatten(two[part])
        assert structure == other
        assert len(mine) > 3
        for number, leaf in enumerate(mine):
            same = torch.equal if isinstance(leaf, torch.Tensor) else operator.eq
            assert same(leaf, theirs[number]), (part, number)
    assert one["epoch"] == two["epoch"]
    assert one["global_step"] == two["global_step"]


def validations(folder: Path) -> list[list[str]]:
    """The agent's rows of the adaptation curves of all validations."""
    with (folder / "adaptation_curve.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    return [row for row in rows if row[0] == "validation" and row[3].startswith("agent")]


class RatioOfFirstMinibatch(Callback):
    """Records the deviation of collected log-probabilities from those of the current weights."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.versions: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 0:
            agent = pl_module.agent
            with torch.no_grad():
                policy = agent.policy(window_features(agent, batch))
            window = batch[keys.WINDOW]
            error = policy.log_prob(window[keys.ACTION]) - window[keys.ACTION_LOG_PROB]
            self.errors.append(error.abs().max().item())
            weights = [parameter.flatten() for parameter in agent.parameters()]
            self.versions.append(torch.cat(weights).detach().clone())


@pytest.mark.parametrize("memory", MEMORIES)
def test_first_iteration_is_on_policy(tmp_path: Path, memory: str) -> None:
    watch = RatioOfFirstMinibatch()
    settings = (*TINY, *PPO, *UNSEEN, f"memory={memory}", "learner.learning_rate=0.05")
    train(compose_config(tmp_path, *settings), watch)
    assert len(watch.errors) == 6
    assert max(watch.errors) < 1e-5
    for before, after in pairwise(watch.versions):
        assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("learner", LEARNERS)
def test_same_seed_same_run(tmp_path: Path, learner: str) -> None:
    settings = (*TINY, *UNSEEN, *of_learner(learner))
    first = train(compose_config(tmp_path / "first", *settings))
    again = train(compose_config(tmp_path / "again", *settings))
    other = train(compose_config(tmp_path / "other", *settings, "seed=2"))
    assert_same_run(first, again)
    one, two = (contents(path)["state_dict"] for path in (first, other))
    name = next(name for name in one if name.endswith("gru.weight_hh_l0"))
    assert not torch.equal(one[name], two[name])


def test_held_out_tasks_are_fixed(tmp_path: Path) -> None:
    one, two = (build_data(compose_config(tmp_path, *TINY, f"seed={seed}")) for seed in (1, 2))
    for stage in ("validation", "test"):
        left, right = (data.held_out[stage].tasks for data in (one, two))
        assert (left == right).all()
    tasks = one.held_out["validation"].tasks[ARM_PROBABILITIES]
    assert not torch.isin(tasks, one.held_out["test"].tasks[ARM_PROBABILITIES]).any()
    learner = build_learner(compose_config(tmp_path, *TINY), one)
    attach(one, learner)
    curves = [
        [trials[keys.REWARD] for loader in one.val_dataloader() for trials in loader]
        for _ in range(2)
    ]
    assert len(curves[0]) == 2
    for first, second in zip(*curves, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("iteration", [0, 7])
def test_ranks_play_different_tasks(tmp_path: Path, iteration: int) -> None:
    cfg = compose_config(tmp_path, *TINY, *PPO)
    played = []
    for rank in (0, 1):
        data = build_data(cfg)
        attach(data, build_learner(cfg, data), rank=rank, iteration=iteration)
        source = data.train_dataloader()
        minibatches = list(source)
        assert len(minibatches) == len(source) == 4
        assert sum(len(minibatch) for minibatch in minibatches) == 2 * 16, "two epochs of a half"
        played.append(torch.cat([m[keys.WINDOW, keys.PREVIOUS_REWARD] for m in minibatches]))
    assert not torch.equal(*played)
