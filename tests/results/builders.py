"""A tiny agent for the tables, and fabricated figures."""

from pathlib import Path

import torch

from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.evaluation.adaptation_curve import Curve
from tests.builders import compose_config

MEMORY = "memory.hidden_size=4"
TRAINED = (
    MEMORY,
    "seed=3",
    "collection.num_trials=16",
    "collection.total_env_steps=500",  # three iterations of 160, and a rest
    "learner.num_epochs=1",
    "learner.num_minibatches=1",
    "evaluation.validation_tasks=4",
    "callbacks.checkpoint.every_n_epochs=1",
    "trainer.accelerator=cpu",
)
FEW = ("evaluation.test_tasks=30", MEMORY)


def train_tiny(
    folder: Path,
    *overrides: str,
    experiment: str = "mab_n10_k5",
    callbacks: tuple[str, ...] = ("checkpoint",),
) -> Path:
    """Train for at most three iterations, and return the last checkpoint."""
    cfg = compose_config(folder, f"experiment={experiment}", *TRAINED, *overrides)
    cfg.callbacks = {name: cfg.callbacks[name] for name in callbacks}
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    build_trainer(cfg, data, learner).fit(learner, data)
    return folder / "last.ckpt"


def straight_curve(trial_return: float, num_episodes: int, half_width: float = 0.5) -> Curve:
    """A curve that rises evenly."""
    mean = torch.linspace(0.5, 1.5, num_episodes, dtype=torch.float64)
    return Curve(
        mean=mean * trial_return / num_episodes,
        half_width=torch.full((num_episodes,), half_width, dtype=torch.float64),
        trial_return=trial_return,
        trial_half_width=half_width,
        num_trials=100,
    )
