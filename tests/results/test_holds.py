"""Episodes until the runs of several seeds hold a return."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from torch.utils.tensorboard import SummaryWriter

from results.holds import Training, first_hold, lines_of, read_training
from rl2_lightning.errors import UserError


@pytest.mark.parametrize(
    ("returns", "num_trials", "expected"),
    [
        ([1.0, 9.0, 9.0, 9.0, 9.0], 1, 2),
        ([1.0, 9.0, 9.0, 9.0, 9.0], 2, 3),
        ([1.0, 9.0, 1.0, 9.0, 7.0], 2, 7),
        ([10.0, 6.0], 2, 1),
        ([9.0], 4, 1),
        ([9.0], 1, None),
        ([1.0, 2.0, 9.0], 2, None),
    ],
)
def test_a_stretch_of_episodes_counts_by_its_mean(
    returns: list[float], num_trials: int, expected: int | None
) -> None:
    assert first_hold(Training(returns, num_trials), 8.0, 4 if num_trials < 4 else 3) == expected


def write_run(folder: Path, returns: list[float], episodes: int = 1) -> Path:
    """A run's configuration and log."""
    cfg = {
        "trial": {"episodes_per_trial": episodes},
        "collection": {"num_trials": 2, "curriculum": {}},
    }
    folder.mkdir()
    OmegaConf.save(cfg, folder / "config.yaml")
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step, value in enumerate(returns):
            writer.add_scalar("train/return", value, step)
    return folder


def test_runs_are_told_one_by_one_and_together(tmp_path: Path) -> None:
    early = write_run(tmp_path / "early", [1, 9, 9, 9])
    late = write_run(tmp_path / "late", [1, 1, 1, 1, 9, 9])
    never = write_run(tmp_path / "never", [1, 1, 9])
    lines = lines_of(8.0, 4, [early, late, never])
    assert lines[0] == f"{early}: held from episode 3; mean of the last 4: 9.0"
    assert lines[2] == f"{never}: held never; mean of the last 4: 5.0"
    # The mean of 3 and 9, whose standard deviation is 4.24.
    assert lines[3] == "2 of 3 runs hold 8 for 4 episodes, these from episode 6 ± 38"


def test_iterations_that_a_resumed_run_repeats_count_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 1, 1, 9])
    with SummaryWriter(str(run / "tensorboard"), filename_suffix=".resumed") as writer:
        for step, value in enumerate([1, 9, 9], start=2):
            writer.add_scalar("train/return", value, step)
    assert read_training(run).returns == [1, 1, 1, 9, 9]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run with a TensorBoard log"):
        lines_of(8.0, 4, [tmp_path])
    with pytest.raises(UserError, match="has several episodes a trial"):
        lines_of(8.0, 4, [write_run(tmp_path / "run", [1.0], episodes=2)])
