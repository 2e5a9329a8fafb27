"""A run in small: two episodes a trial, an agent that gets better with each iteration.

As a program, `tiny_fit.py FOLDER RANK`, it trains as one of two ranks until a signal stops it, and
then writes how it ended to `FOLDER/end_RANK.json`.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.preemption import Preemption
from callbacks.progress import IterationProgressBar
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve
from rl2_lightning.evaluation.held_out import HeldOutTasks

NUM_EPISODES = 2
NUM_TASKS = 8
BATCHES = 3


def curve_at(level: float) -> Curve:
    """The curve of a player who gets `level` and then twice that, give or take 0.1."""
    noise = torch.tensor([0.1, -0.1]).repeat(NUM_TASKS // 2).unsqueeze(-1)
    metric = AdaptationCurve(NUM_EPISODES, sync_on_compute=False)
    returns = level * torch.tensor([1.0, 2.0]) + noise
    metric.update(returns, torch.ones_like(returns, dtype=torch.bool))
    return metric.compute()


class LevelOracle:
    def __init__(self, level: float) -> None:
        self.level = level

    def play(self, tasks, num_episodes, generator) -> Tensor:
        return self.level * torch.tensor([1.0, 2.0]).expand(len(tasks), num_episodes)


class TinyAgent(LightningModule):
    """Gains 0.1 a step of the first episode in each iteration; learns from 60 env steps each."""

    def __init__(self, seconds_per_batch: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)
        self.seconds_per_batch = seconds_per_batch
        self.latest_curves: dict[str, Curve] = {}
        self.batches = 0

    @property
    def env_steps(self) -> int:
        return 20 * self.batches

    @property
    def iteration(self) -> int:
        return self.batches // BATCHES

    def training_step(self, batch, batch_idx):
        time.sleep(self.seconds_per_batch)
        self.batches += 1
        self.log("train/return", float(self.batches), on_step=False, on_epoch=True, sync_dist=True)
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        level = 0.1 * self.batches / BATCHES
        self.latest_curves = {"greedy": curve_at(level), "sampled": curve_at(level / 2)}

    on_test_epoch_end = on_validation_epoch_end

    def on_save_checkpoint(self, checkpoint):
        checkpoint["batches"] = self.batches

    def on_load_checkpoint(self, checkpoint):
        self.batches = checkpoint["batches"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TinyData(LightningDataModule):
    """Minibatches of constants, and held-out tasks with two oracles, or with none."""

    def __init__(self, with_oracles: bool = True) -> None:
        super().__init__()
        oracles = {"random": LevelOracle(0.5), "greedy": LevelOracle(1.0)} if with_oracles else {}
        family = SimpleNamespace(oracles=lambda num_episodes: oracles)
        tasks = TensorDict({"level": torch.zeros(NUM_TASKS)}, batch_size=[NUM_TASKS])
        held_out = HeldOutTasks(family, tasks, NUM_EPISODES, seed=0)
        self.held_out = {"validation": held_out, "test": held_out}

    def train_dataloader(self):
        return DataLoader(torch.ones(4 * BATCHES, 2), batch_size=4)

    def val_dataloader(self):
        return DataLoader(torch.ones(2))

    test_dataloader = val_dataloader


def make_trainer(callbacks, max_epochs: int, **settings) -> Trainer:
    bars = any(hasattr(callback, "disable") for callback in callbacks)
    return Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        callbacks=callbacks,
        enable_progress_bar=bars,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **{"logger": False, "devices": 1, **settings},
    )


def train_until_stopped(folder: Path, rank: int) -> None:
    """Trains ten thousand iterations as one of two ranks, unless a signal comes first."""
    torch.set_num_threads(1)
    preemption = Preemption(str(folder / "last.ckpt"))
    agent = TinyAgent(seconds_per_batch=0.05)
    trainer = make_trainer(
        [preemption, IterationProgressBar(seconds_between_lines=0.0)],
        max_epochs=10_000,
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        use_distributed_sampler=False,
    )
    agent.on_train_batch_start = lambda batch, batch_idx: (folder / f"running_{rank}").touch()
    trainer.fit(agent, TinyData())
    end = {
        "preempted": preemption.preempted,
        "iterations": trainer.current_epoch,
        "batches": agent.batches,
    }
    (folder / f"end_{rank}.json").write_text(json.dumps(end))


if __name__ == "__main__":
    train_until_stopped(Path(sys.argv[1]), int(sys.argv[2]))
