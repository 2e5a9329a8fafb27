"""A training of five iterations."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from rl2_lightning.build import build_data, build_learner, build_trainer
from tests.builders import compose_config

TINY = (
    "collection.num_trials=16",
    "collection.total_env_steps=320",  # 5 iterations of 64 steps
    "trial.episodes_per_trial=4",
    "learner.num_minibatches=2",
    "memory.hidden_size=4",
    "evaluation.validation_tasks=4",
    "evaluation.test_tasks=4",
    "trainer.accelerator=cpu",
)


def fit(folder: Path, callback: Callback | None, *overrides: str) -> Any:
    cfg = compose_config(folder, *TINY, *overrides)
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    trainer.callbacks = [] if callback is None else [callback]
    trainer.fit(learner, data)
    return learner
