"""The output of the curve's callback: a table, a picture, and TensorBoard."""

import csv
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl2_lightning.callbacks.adaptation_curve import COLUMNS, AdaptationCurveLogger
from tests.callbacks.tiny_fit import TinyAgent, TinyData, make_trainer


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "adaptation_curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(
    folder: Path, max_epochs: int, checkpoint: str | None = None, with_players=True, **settings
):
    trainer = make_trainer([AdaptationCurveLogger(str(folder))], max_epochs, **settings)
    agent, data = TinyAgent(), TinyData(with_players)
    trainer.fit(agent, data, ckpt_path=checkpoint)
    return trainer, agent, data


def iterations(rows: list[dict[str, str]], player: str, stage: str = "validation") -> list[int]:
    found = [row for row in rows if (row["stage"], row["player"]) == (stage, player)]
    return [int(row["iteration"]) for row in found if row["episode"] == "1"]


def test_table_of_a_run(tmp_path: Path):
    trainer, agent, data = run(tmp_path, max_epochs=3)
    trainer.test(agent, data, verbose=False)
    trainer.test(agent, data, verbose=False)
    rows = read(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    # A reference player named "greedy" is not confused with the greedy agent.
    assert {row["player"] for row in rows} == {"agent_greedy", "agent_sampled", "random", "greedy"}
    assert iterations(rows, "agent_greedy") == [1, 2, 3]
    assert iterations(rows, "greedy") == [0]
    assert iterations(rows, "agent_greedy", "test") == [3]
    assert iterations(rows, "greedy", "test") == [0]
    second = next(row for row in rows if row["iteration"] == "2" and row["episode"] == "2")
    assert second["env_steps"] == "120"
    assert float(second["mean"]) == pytest.approx(0.4)
    assert float(second["half_width"]) == pytest.approx(1.96 * 0.1 / 7**0.5, rel=1e-4)


def test_table_survives_resuming_and_drops_what_is_played_again(tmp_path: Path):
    trainer, *_ = run(tmp_path, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    run(tmp_path, max_epochs=4, checkpoint=str(tmp_path / "two.ckpt"))
    run(tmp_path, max_epochs=3, checkpoint=str(tmp_path / "two.ckpt"))
    rows = read(tmp_path)
    assert iterations(rows, "agent_sampled") == [1, 2, 3]
    assert iterations(rows, "random") == [0]
    run(tmp_path, max_epochs=1)
    assert iterations(read(tmp_path), "agent_sampled") == [1]


def test_picture_and_tensorboard(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer, agent, data = run(tmp_path, max_epochs=2, logger=logger)
    trainer.test(agent, data, verbose=False)
    picture = imread(tmp_path / "adaptation_curve.png")
    assert picture.std() > 0.05
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars("validation/share_of_reference_greedy")] == [
        pytest.approx(0.1),
        pytest.approx(0.2),
    ]
    assert events.Scalars("test_curve_greedy/trial")[0].value == pytest.approx(0.6)
    assert events.Scalars("test_curve_sampled/episode_002")[0].value == pytest.approx(0.2)
    assert {"validation/adaptation_curve", "test/adaptation_curve"} <= set(events.Tags()["images"])


def test_a_family_without_players(tmp_path: Path):
    run(tmp_path, max_epochs=1, with_players=False)
    assert {row["player"] for row in read(tmp_path)} == {"agent_greedy", "agent_sampled"}
