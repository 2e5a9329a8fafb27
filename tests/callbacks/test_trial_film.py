"""The film of a trial, after a test of the whole program."""

from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command_line.program import SMALL, call_program


def test_the_film_and_tensorboard(tmp_path: Path) -> None:
    short = ("env.size=2", "env.horizon=6")
    call_program(tmp_path, *SMALL, "experiment=maze_3x3", *short, f"hydra.run.dir={tmp_path}")
    with Image.open(tmp_path / "trial_film.gif") as image:
        assert image.n_frames > 1
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (event,) = events.Images("test/trial_film")
    assert event.encoded_image_string == (tmp_path / "trial_film.gif").read_bytes()
    assert (tmp_path / "trial_paths.png").exists()


@pytest.mark.parametrize("experiment", ["grid_navi", "mab_n10_k5"])
def test_nothing_is_filmed_where_nothing_is_seen(experiment: str, tmp_path: Path) -> None:
    call_program(tmp_path, *SMALL, f"experiment={experiment}", f"hydra.run.dir={tmp_path}")
    assert not (tmp_path / "trial_film.gif").exists()
