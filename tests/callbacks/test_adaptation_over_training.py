"""The callback that draws how adaptation emerges: a file, TensorBoard, and a resumed run."""

from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl2_lightning.callbacks.adaptation_curve import TABLE, AdaptationCurveLogger
from rl2_lightning.callbacks.adaptation_over_training import (
    PICTURE,
    AdaptationOverTraining,
    read_validations,
)
from tests.callbacks.tiny_fit import TinyAgent, TinyData, make_trainer

TAG = "validation/adaptation_over_training"


def run(folder: Path, max_epochs: int, checkpoint: str | None = None, **settings):
    drawn = AdaptationOverTraining(str(folder))
    trainer = make_trainer([drawn, AdaptationCurveLogger(str(folder))], max_epochs, **settings)
    trainer.fit(TinyAgent(), TinyData(), ckpt_path=checkpoint)
    return trainer, drawn


def test_picture_and_tensorboard(tmp_path: Path) -> None:
    run(tmp_path / "one", max_epochs=1)
    assert not (tmp_path / "one" / PICTURE).exists(), "one validation is no training"
    run(tmp_path, max_epochs=3, logger=TensorBoardLogger(tmp_path, name="", version=""))
    assert imread(tmp_path / PICTURE).std() > 0.02
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images(TAG)] == [120, 180]


def test_validations_are_read_from_the_table(tmp_path: Path) -> None:
    _, drawn = run(tmp_path, max_epochs=3)
    found = read_validations(tmp_path / TABLE)
    assert len(found) == 3
    assert list(found.references) == ["random", "greedy"]
    for mode, curves in drawn._curves.items():
        assert list(found.agents[mode]) == list(curves) == [60, 120, 180]
        for env_steps, curve in curves.items():
            read = found.agents[mode][env_steps]
            assert read.mean.tolist() == pytest.approx(curve.mean.tolist())
            assert read.half_width.tolist() == pytest.approx(curve.half_width.tolist())


def test_a_resumed_run_goes_on_with_its_curves(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    run(tmp_path, max_epochs=5, checkpoint=str(tmp_path / "two.ckpt"))
    _, drawn = run(tmp_path, max_epochs=3, checkpoint=str(tmp_path / "two.ckpt"))
    assert list(drawn._curves["greedy"]) == [60, 120, 180]
    _, drawn = run(tmp_path, max_epochs=1)
    assert list(drawn._curves["greedy"]) == [60], "a new run starts anew"
