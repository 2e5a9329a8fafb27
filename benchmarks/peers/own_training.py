"""A whole training of this project, with evaluations that its seconds leave out."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.peers.loops import Clock
from benchmarks.peers.own_loop import CONFIGS
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.callbacks.outcome import callbacks_of, data_of, env_steps_of
from rl2_lightning.config import register_schemas
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve
from rl2_lightning.evaluation.held_out import add_returns
from rl2_lightning.session import fit, quieten


class Evaluations(Callback):
    """Lets the agent play greedily from time to time.

    Args:
        every: iterations between two evaluations.
        clock: measures the seconds of training.

    Attributes:
        found: env steps, seconds of training, and the mean return of a trial.
    """

    def __init__(self, every: int, clock: Clock) -> None:
        self._every = every
        self._clock = clock
        self._seconds = self._start = 0.0
        self.found: list[tuple[int, float, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate after so many iterations."""
        now = self._clock()
        if trainer.current_epoch:
            self._seconds += now - self._start
            if trainer.current_epoch % self._every == 0:
                self._evaluate(trainer, pl_module)
        self._start = self._clock()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the agent of the last iteration."""
        self._seconds += self._clock() - self._start
        self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        held_out = data_of(trainer).held_out["test"]
        device = trainer.strategy.root_device
        curve = AdaptationCurve(held_out.num_episodes).to(device)
        for steps in held_out.loaders(pl_module.agent, device)[0]:
            add_returns(curve, steps)
        found = curve.compute().trial_return
        self.found.append((env_steps_of(pl_module), self._seconds, found))


def train(overrides: Sequence[str], evaluations: Evaluations) -> None:
    """Train as `python train.py` does, without its own files, pictures and evaluations."""
    quieten()
    register_schemas()
    with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
        cfg = compose("train", ["trainer.check_val_every_n_epoch=1000000", *overrides])
    cfg.callbacks, cfg.logger = {}, {}
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    callbacks_of(trainer).append(evaluations)
    fit(trainer, learner, data, cfg)
