"""Evaluate an agent's held-out trials in validations and tests."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensordict import TensorDictBase
from torchmetrics import Metric

from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve
from rl2_lightning.evaluation.held_out import MODES, HeldOut, add_returns
from rl2_lightning.families.analysis import Finding
from rl2_lightning.learners.learner import Learner


class HeldOutEvaluation(Callback):
    """Accumulates the adaptation curves of an agent and the results of the family's analysis.

    The other callbacks read both from this one, which has to precede them.

    Attributes:
        curves: the agent's curves of the last validation or test, by the way it acted.
        findings: results of the family's own analysis in the last test, by the way it acted.
    """

    def __init__(self) -> None:
        self.curves: Mapping[str, Curve] = {}
        self.findings: Mapping[str, Finding] = {}
        self._curves: list[AdaptationCurve] = []
        self._analyses: list[Metric] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start new curves."""
        self._begin(held_out_of(trainer, "validation"), pl_module.device, analyses=False)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start new curves and analyses."""
        self._begin(held_out_of(trainer, "test"), pl_module.device, analyses=True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TensorDictBase,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add played trials, `[B, T]`."""
        add_returns(self._curves[dataloader_idx], batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TensorDictBase,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add played trials, `[B, T]`."""
        add_returns(self._curves[dataloader_idx], batch)
        analysis = held_out_of(trainer, "test").analysis
        if analysis is not None:
            analysis.add(self._analyses[dataloader_idx], batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the curves over all ranks."""
        self._finish(pl_module, "validation")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute curves and findings over all ranks."""
        self._finish(pl_module, "test")

    def _begin(self, held_out: HeldOut, device: torch.device, *, analyses: bool) -> None:
        self._curves = [AdaptationCurve(held_out.num_episodes).to(device) for _ in MODES]
        self._analyses = []
        if analyses and held_out.analysis is not None:
            self._analyses = [held_out.analysis.make_metric().to(device) for _ in MODES]

    def _finish(self, pl_module: LightningModule, stage: str) -> None:
        self.curves = {
            mode: curve.compute() for mode, curve in zip(MODES, self._curves, strict=True)
        }
        found = [metric.compute() for metric in self._analyses]
        self.findings = dict(zip(MODES, found, strict=False))
        returns = {f"{stage}/return_{m}": curve.trial_return for m, curve in self.curves.items()}
        pl_module.log_dict(returns | {"step": float(cast(Learner, pl_module).clock.env_steps)})


def held_out_of(trainer: Trainer, stage: str) -> HeldOut:
    """The held-out tasks of a stage, `held_out[stage]` of the data module."""
    held_out: Mapping[str, HeldOut] = cast(Any, trainer).datamodule.held_out
    return held_out[stage]
