"""The picture of the agent's path, after a test of the whole program."""

from pathlib import Path

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command_line.program import SMALL, call_program


def test_the_picture_and_tensorboard(tmp_path: Path) -> None:
    call_program(tmp_path, *SMALL, "experiment=grid_navi", f"hydra.run.dir={tmp_path}")
    assert imread(tmp_path / "trial_paths.png").std() > 0.05
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert "test/trial_paths" in events.Tags()["images"]


@pytest.mark.parametrize(
    "choice", ["experiment=mab_n10_k5", "experiment=grid_navi callbacks.trial_paths=null"]
)
def test_nothing_is_drawn_where_there_is_no_plane_or_no_wish(choice: str, tmp_path: Path) -> None:
    call_program(tmp_path, *SMALL, *choice.split(), f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "adaptation_curve.png").exists()
    assert not (tmp_path / "trial_paths.png").exists()
