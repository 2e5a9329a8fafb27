"""A small run: two episodes a trial, and an agent that improves with each iteration.

As a program, `tiny_fit.py FOLDER RANK`, it trains as one of two ranks until a signal stops it, and
then writes its final state to `FOLDER/end_RANK.json`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import DataLoader
from torchrl.data import Categorical, Unbounded

from rl2_lightning import keys
from rl2_lightning.callbacks.evaluation import HeldOutEvaluation
from rl2_lightning.callbacks.preemption import Preemption
from rl2_lightning.callbacks.progress import IterationProgressBar
from rl2_lightning.config import TrialConfig
from rl2_lightning.data.seeding import Purpose
from rl2_lightning.data.world import World
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.families.player import ClosedFormPlayer
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings

NUM_EPISODES = 2
NUM_TASKS = 8
BATCHES = 3


class LevelPlayer(ClosedFormPlayer):
    """Earns a fixed level in the first episode, and twice that in the second."""

    def __init__(self, level: float) -> None:
        self.level = level

    def returns(self, tasks: Any, num_episodes: int, generator: torch.Generator) -> Tensor:
        return self.level * torch.tensor([1.0, 2.0]).expand(len(tasks), num_episodes)


class Levels(TaskEnv):
    """A family that is never played; with two reference players, or with none."""

    def __init__(self, num_tasks: int, device: Any = "cpu", *, has_players: bool) -> None:
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(2),
            max_episode_steps=1,
            device=device,
        )
        self.settings = Settings()
        self.has_players = has_players

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        return TensorDict({"level": torch.zeros(num_tasks)}, [num_tasks])

    def begin_episodes(self, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def players(self, num_episodes: int) -> Mapping[str, ClosedFormPlayer]:
        levels = {"random": 0.5, "greedy": 1.0} if self.has_players else {}
        return {name: LevelPlayer(level) for name, level in levels.items()}


def steps_at(level: float) -> TensorDict:
    """Trials of a player that earns `level` and then twice that, give or take 0.1."""
    noise = torch.tensor([0.1, -0.1]).repeat(NUM_TASKS // 2).view(-1, 1, 1)
    reward = level * torch.tensor([1.0, 2.0]).view(1, -1, 1) + noise
    entries = {
        keys.REWARD: reward,
        keys.EPISODE: torch.arange(NUM_EPISODES).view(1, -1, 1).expand(reward.shape),
        keys.MASK: torch.ones_like(reward, dtype=torch.bool),
    }
    return TensorDict(entries, reward.shape[:2])


class LevelTrials:
    """Loads trials of a player with some level."""

    def __init__(self, level: Callable[[], float]) -> None:
        self.level = level

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[TensorDict]:
        yield steps_at(self.level())


class TinyAgent(LightningModule):
    """Gains 0.1 per step of the first episode in each iteration, of 60 env steps."""

    def __init__(self, seconds_per_batch: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)
        self.seconds_per_batch = seconds_per_batch
        self.batches = 0

    @property
    def clock(self) -> SimpleNamespace:
        return SimpleNamespace(env_steps=20 * self.batches, iterations=self.batches // BATCHES)

    def training_step(self, batch, batch_idx):
        time.sleep(self.seconds_per_batch)
        self.batches += 1
        self.log("train/return", float(self.batches), on_step=False, on_epoch=True, sync_dist=True)
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        pass

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        pass

    def on_save_checkpoint(self, checkpoint):
        checkpoint["batches"] = self.batches

    def on_load_checkpoint(self, checkpoint):
        self.batches = checkpoint["batches"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TinyData(LightningDataModule):
    """Minibatches of constants, and held-out tasks with two reference players, or with none."""

    def __init__(self, with_players: bool = True) -> None:
        super().__init__()
        trial = TrialConfig(episodes_per_trial=NUM_EPISODES, steps_per_trial=None, continues=False)
        world = World(partial(Levels, has_players=with_players), trial)
        held_out = HeldOut(world, Purpose.TEST_TASKS, NUM_TASKS, tasks_seed=0, batch_size=NUM_TASKS)
        self.held_out = {"validation": held_out, "test": held_out}

    def train_dataloader(self):
        return DataLoader(torch.ones(4 * BATCHES, 2), batch_size=4)

    def val_dataloader(self):
        def level() -> float:
            return 0.1 * self.trainer.lightning_module.batches / BATCHES

        return [LevelTrials(level), LevelTrials(lambda: level() / 2)]

    test_dataloader = val_dataloader


def make_trainer(callbacks: list[Callback], max_epochs: int, **settings) -> Trainer:
    bars = any(hasattr(callback, "disable") for callback in callbacks)
    return Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        callbacks=[HeldOutEvaluation(), *callbacks],
        enable_progress_bar=bars,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **{"logger": False, "devices": 1, **settings},
    )


def train_until_stopped(folder: Path, rank: int) -> None:
    """Train ten thousand iterations as one of two ranks, unless a signal comes first."""
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
