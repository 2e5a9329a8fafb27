"""Iterations of this project, one at a time, though Lightning owns the loop."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig

import rl2_lightning
from benchmarks.peers.loops import Lap, Turns
from benchmarks.peers.work import Work
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.callbacks.outcome import callbacks_of
from rl2_lightning.callbacks.throughput import Throughput
from rl2_lightning.config import register_schemas
from rl2_lightning.learners.learner import Learner
from rl2_lightning.session import fit, quieten

# Of the checkout that is measured, which may be another one.
CONFIGS = Path(rl2_lightning.__file__).parent / "configs"
ENDLESS = 10**12


def configure(work: Work, folder: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of a run that does this work."""
    num = "num_arms" if work.env == "bernoulli_bandit" else "num_actions"
    settings = [
        f"env={work.env}",
        f"memory={work.memory}",
        f"env.{num}={work.num_actions}",
        f"trial.episodes_per_trial={work.num_episodes}",
        f"memory.hidden_size={work.hidden_size}",
        f"collection.num_trials={work.num_trials}",
        f"collection.total_env_steps={ENDLESS}",
        f"collection.window={work.window or 'null'}",
        f"learner.num_epochs={work.num_epochs}",
        f"learner.num_minibatches={work.num_minibatches}",
        f"learner.critic={{separate:{work.has_two_memories},sees_task:false,hidden_sizes:[]}}",
        f"trainer.check_val_every_n_epoch={ENDLESS}",
        f"output_dir={folder}",
    ]
    if torch.cuda.is_available():  # as XLA does by default
        settings += ["trainer.cuda_graphs=true", "trainer.tf32=true"]
    register_schemas()
    with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
        cfg = compose("train", [*settings, *overrides])
    # Leave out the callbacks of a normal run, which write files and draw.
    cfg.callbacks, cfg.logger = {}, {}
    return cfg


def learner_of(work: Work) -> Learner:
    """The learner of a run that does this work, on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = configure(work, folder, ["trainer.accelerator=cpu"])
        return build_learner(cfg, build_data(cfg))


def num_parameters(work: Work) -> int:
    """The number of parameters of the memory."""
    return sum(parameter.numel() for parameter in learner_of(work).agent.memory.parameters())


def num_weights(work: Work) -> int:
    """The number of weights of the agent and its critic that are used in products."""
    return sum(one.numel() for one in learner_of(work).parameters() if one.ndim == 2)


class Stopwatch(Callback):
    """Begins an iteration when it is its turn, and measures it.

    A lap goes from the start of an iteration to the point where the next one would begin, so that
    everything in between counts, logging included.

    Args:
        turns: when to begin, and what gets the laps.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._start = self._collected = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a lap, and wait for the next turn."""
        if self._start:
            end = self._now()
            self._turns.end(Lap(self._collected - self._start, end - self._start))
        if not self._turns.wait():
            raise SystemExit
        self._start = self._now()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note when the trials have been collected."""
        if batch_idx == 0:
            self._collected = self._now()

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self._turns.clock()


def run(work: Work, turns: Turns) -> None:
    """Iterations of a run, until there is no further turn."""
    quieten()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(SystemExit):
        cfg = configure(work, folder)
        data = build_data(cfg)
        learner = build_learner(cfg, data)
        trainer = build_trainer(cfg, data, learner)
        callbacks_of(trainer).extend([Throughput(), Stopwatch(turns)])
        fit(trainer, learner, data, cfg)
