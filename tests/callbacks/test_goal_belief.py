"""Pictures of the belief over the goal, after a test of the whole program."""

import csv
import math
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command_line.program import SMALL, call_program

FILES = ("goal_belief.png", "goal_belief.gif", "goal_entropy.png", "goal_entropy.csv")
SHORT = ("env.horizon=6", "learner.num_updates=1")


@pytest.mark.parametrize("form", ["moments", "samples"])
def test_pictures_and_tensorboard(tmp_path: Path, form: str) -> None:
    given = (f"agent.belief.form={form}", f"hydra.run.dir={tmp_path}")
    call_program(tmp_path, *SMALL, *SHORT, "experiment=varibad_grid_navi", *given)
    with Image.open(tmp_path / "goal_belief.gif") as image:
        assert image.n_frames == 12, "two episodes of six steps"
    with (tmp_path / "goal_entropy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(12))
    assert all(0 <= float(row["entropy"]) <= math.log(25) for row in rows)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = events.Scalars("test/goal_entropy_of_step")
    assert [one.step for one in scalars] == list(range(12))
    assert scalars[3].value == pytest.approx(float(rows[3]["entropy"]), rel=1e-5)
    images = {"test/goal_belief", "test/goal_belief_film", "test/goal_entropy"}
    assert images <= set(events.Tags()["images"])


@pytest.mark.parametrize(
    "overrides",
    [
        "experiment=varibad_grid_navi learner.decoder.reward_likelihood=normal",
        "experiment=varibad_point_robot_sparse",
        "experiment=rl2_belief_grid_navi",
    ],
)
def test_nothing_is_drawn_where_no_goal_is_decoded(tmp_path: Path, overrides: str) -> None:
    updates = () if "rl2" in overrides else ("learner.num_updates=1",)
    given = ("env.horizon=3", f"hydra.run.dir={tmp_path}")
    call_program(tmp_path, *SMALL, *updates, *overrides.split(), *given)
    assert not [name for name in FILES if (tmp_path / name).exists()]
