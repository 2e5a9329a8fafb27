"""Metrics of an iteration are written once, with those of Lightning's `log` where it is used."""

import csv
import gc
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from rl2_lightning.allocator import frozen_objects
from rl2_lightning.callbacks.throughput import Throughput
from tests.short_fit import fit


class Watch(Throughput):
    """Gives the trainer a table, and keeps the metrics that callbacks read."""

    def __init__(self, folder: Path, *, logs_itself: bool) -> None:
        super().__init__()
        self._folder = folder
        self._logs_itself = logs_itself
        self.seen: list[dict[str, Any]] = []

    def setup(self, trainer, pl_module, stage) -> None:
        trainer.loggers = [CSVLogger(self._folder, flush_logs_every_n_steps=1)]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self._logs_itself and batch_idx == 0:
            pl_module.log("own", 7.0, on_step=False, on_epoch=True)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.seen.append({name: float(one) for name, one in trainer.callback_metrics.items()})


@pytest.mark.parametrize("logs_itself", [False, True])
def test_an_iteration_is_one_row(tmp_path: Path, logs_itself: bool) -> None:
    watch = Watch(tmp_path, logs_itself=logs_itself)
    fit(tmp_path, watch)
    (table,) = tmp_path.rglob("metrics.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["64", "128", "192", "256", "320"]
    assert [float(row["train/env_steps"]) for row in rows] == [64, 128, 192, 256, 320]
    names = {"train/return", "train/policy_loss", "train/learning_rate", "train/steps_per_second"}
    names |= {"own"} if logs_itself else set()
    for row, seen in zip(rows, watch.seen[1:], strict=False):
        assert names < {name for name, value in row.items() if value}
        assert seen["step"] == float(row["step"])
        for name in names:
            assert seen[name] == pytest.approx(float(row[name]))


def test_both_ways_write_the_same(tmp_path: Path) -> None:
    rows = []
    for logs_itself in (False, True):
        watch = Watch(tmp_path / str(logs_itself), logs_itself=logs_itself)
        fit(tmp_path, watch)
        rows.append(watch.seen[-1])
    kept = [name for name in rows[0] if "per_second" not in name]
    assert rows[1].keys() == rows[0].keys() | {"own"}
    assert [rows[0][name] for name in kept] == pytest.approx([rows[1][name] for name in kept])


def test_objects_are_frozen_for_a_while() -> None:
    before = gc.get_freeze_count()
    with frozen_objects():
        assert gc.get_freeze_count() > before + 1000
    assert gc.get_freeze_count() == before
