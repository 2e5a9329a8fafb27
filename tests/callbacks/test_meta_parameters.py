"""What a learner learns about its own updates is written, drawn, and continued."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl2_lightning.callbacks.meta_parameters import MetaParameterLogger
from rl2_lightning.evaluation.meta_parameters import meta_parameter_figure
from rl2_lightning.learners.learner import Learner
from tests.short_fit import fit

NUM_ITERATIONS, STEPS = 5, 64  # of a short fit


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "meta_parameters.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def trained(folder: Path, *overrides: str) -> Learner:
    few = ("learner.num_minibatches=1", "trainer.check_val_every_n_epoch=2")
    learner = fit(folder, MetaParameterLogger(str(folder)), *few, *overrides)
    assert isinstance(learner.trainer.loggers[0], TensorBoardLogger)
    assert isinstance(learner, Learner)
    return learner


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Learner]:
    """The folder of a training with meta-gradients, and its learner."""
    folder = tmp_path_factory.mktemp("meta")
    return folder, trained(folder, "learner=meta_gradient", "learner.outer_learning_rate=0.1")


def test_each_iteration_has_a_row(run: tuple[Path, Learner]) -> None:
    folder, learner = run
    rows = rows_of(folder)
    assert list(rows[0]) == ["iteration", "env_steps", "gamma", "gae_lambda"]
    expected = [(i, i * STEPS) for i in range(1, NUM_ITERATIONS + 1)]
    assert [(int(row["iteration"]), int(row["env_steps"])) for row in rows] == expected
    reached = [float(rows[-1][name]) for name in ("gamma", "gae_lambda")]
    assert reached == pytest.approx(learner.discounts, rel=1e-6)
    assert len({row["gamma"] for row in rows}) >= NUM_ITERATIONS - 1


def test_they_are_drawn_and_logged(run: tuple[Path, Learner]) -> None:
    folder, _ = run
    assert imread(folder / "meta_parameters.png").ndim == 3
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert "train/meta_parameters" in events.Tags()["images"]
    shown = events.Scalars("train/gamma")
    assert [one.step for one in shown] == [STEPS * i for i in range(1, NUM_ITERATIONS + 1)]
    # An iteration's trials are learnt from with what the one before has left.
    rows = rows_of(folder)
    later = [one.value for one in shown[1:]]
    assert later == pytest.approx([float(row["gamma"]) for row in rows[:-1]], rel=1e-5)


def test_a_resumed_run_repeats_no_row(tmp_path: Path, run: tuple[Path, Learner]) -> None:
    folder, learner = run
    text = (folder / "meta_parameters.csv").read_text()
    (tmp_path / "meta_parameters.csv").write_text(text + "6,384,0.9")  # killed while it wrote
    logger = MetaParameterLogger(str(tmp_path))
    logger.on_train_start(SimpleNamespace(is_global_zero=True, current_epoch=2), learner)
    assert [row["iteration"] for row in rows_of(tmp_path)] == ["1", "2"]
    assert rows_of(tmp_path) == rows_of(folder)[:2]
    logger.on_train_start(SimpleNamespace(is_global_zero=True, current_epoch=0), learner)
    assert rows_of(tmp_path) == []


def test_other_learners_write_nothing(tmp_path: Path) -> None:
    trained(tmp_path, "learner=a2c")
    assert not list(tmp_path.glob("meta_parameters*"))


def test_each_parameter_has_a_panel() -> None:
    values = {"gamma": [0.9, 0.95], "learning_rate": [1e-3, 2e-3]}
    figure = meta_parameter_figure([10, 20], values)
    assert [axes.get_ylabel() for axes in figure.axes] == ["gamma", "learning rate"]
    for axes, numbers in zip(figure.axes, values.values(), strict=True):
        (line,) = axes.get_lines()
        assert line.get_xdata().tolist() == [10, 20]
        assert line.get_ydata().tolist() == numbers
