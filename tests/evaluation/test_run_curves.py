"""Curves of several runs, from their logs."""

from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from rl2_lightning.compare import compare, runs_below
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.run_curves import (
    RunCurve,
    band_of,
    read_run,
    runs_figure,
)
from rl2_lightning.means import student_quantile
from rl2_lightning.run_folder import CONFIG

METRIC = "train/return"


def write_run(folder: Path, values: dict[int, float], start: float = 100.0) -> Path:
    """A run with a log: a value every two seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).touch()
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for number, (step, value) in enumerate(values.items()):
            writer.add_scalar(METRIC, value, step, walltime=start + 2 * number)
    return folder


def curve(env_steps: list[float], values: list[float], seconds: list[float] | None = None):
    return RunCurve(
        *(np.array(one, dtype=float) for one in (env_steps, seconds or env_steps, values))
    )


def test_logs_are_read(tmp_path: Path) -> None:
    found = read_run(write_run(tmp_path / "a", {10: 1.0, 20: 2.0, 30: 4.0}), METRIC)
    assert found.env_steps.tolist() == [10, 20, 30]
    assert found.seconds.tolist() == [0, 2, 4]
    assert found.values.tolist() == [1, 2, 4]


def test_time_begins_with_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {10: 1.0, 20: 2.0}, start=100.0)
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        writer.add_scalar("train/loss", 1.0, 0, walltime=95.0)
    assert read_run(folder, METRIC).seconds.tolist() == [5, 7]


def test_of_a_resumed_run_the_later_log_holds(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {10: 1.0, 20: 2.0, 30: 9.0})
    write_run(folder, {30: 3.0, 40: 4.0}, start=200.0)
    found = read_run(folder, METRIC)
    assert found.env_steps.tolist() == [10, 20, 30, 40]
    assert found.values.tolist() == [1, 2, 3, 4]


def test_bands_are_means_with_intervals() -> None:
    runs = [curve([0, 10, 20], [0, 1, 2]), curve([5, 25], [1.5, 5.5]), curve([0, 30], [2, 2])]
    band = band_of(runs, "env_steps")
    assert band.num_runs == 3
    assert (band.x[0], band.x[-1]) == (5, 20), "what all runs have"
    expected = np.array([[0.5, 1.5, 2.0], [2.0, 4.5, 2.0]])
    assert band.mean[[0, -1]] == pytest.approx(expected.mean(1))
    half = 4.303 * expected.std(axis=1, ddof=1) / 3**0.5
    assert band.half_width[[0, -1]] == pytest.approx(half)
    alone = band_of(runs[:1], "seconds")
    assert np.isnan(alone.half_width).all()
    assert alone.mean[-1] == 2


@pytest.mark.parametrize(
    ("degrees", "published"),
    [(1, 12.706), (2, 4.303), (9, 2.262), (10, 2.228), (19, 2.093), (30, 2.042)],
)
def test_quantiles_are_those_of_tables(degrees: int, published: float) -> None:
    assert student_quantile(degrees) == pytest.approx(published, abs=0.003)


def test_runs_are_compared(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / "one" / str(seed), {10: seed, 20: 2.0 * seed, 30: 3.0})
    alone = write_run(tmp_path / "other", {10: 1.0, 40: 5.0})
    assert [path.name for path in runs_below(tmp_path / "one")] == ["1", "2", "3"]
    assert runs_below(alone) == [alone]
    picture = tmp_path / "runs.png"
    compare([tmp_path / "one", alone], METRIC, picture)
    assert picture.stat().st_size > 10_000
    groups = {"one": [read_run(alone, METRIC)] * 2, "two": [read_run(alone, METRIC)]}
    figure = runs_figure(groups, METRIC)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "env steps",
        "seconds of training, with validations",
    ]
    assert figure.axes[0].get_ylabel() == METRIC
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["one (2 runs)", "two (1 run)"]


def test_mistakes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", {10: 1.0, 20: 2.0})
    picture = tmp_path / "runs.png"
    with pytest.raises(UserError, match=r"a has no val: it has train/return$"):
        compare([run], "val", picture)
    with pytest.raises(UserError, match=r"none has no run: give folders of runs"):
        compare([tmp_path / "none"], METRIC, picture)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / CONFIG).touch()
    with pytest.raises(UserError, match=r"empty has no TensorBoard log"):
        compare([tmp_path / "empty"], METRIC, picture)
    picture.write_bytes(b"kept")
    with pytest.raises(UserError, match=r"runs.png exists: give another one, or remove it"):
        compare([run], METRIC, picture)
    assert picture.read_bytes() == b"kept"
