"""`python -m rl2_lightning.look` writes pictures that suit the family."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from rl2_lightning.resumed_config import config_of
from tests.builders import ROOT
from tests.command_line.program import run_module

CHECKPOINTS = ROOT / "results" / "checkpoints"
PICTURES = ["adaptation_curve.png", "regret.png", "actions.png", "memory.png", "reactions.png"]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("mab_n10_k5_seed1", PICTURES),
        pytest.param("grid_navi_seed1", [*PICTURES, "paths.png"], marks=pytest.mark.slow),
        pytest.param(
            "point_robot_seed1",
            [*(name for name in PICTURES if name != "actions.png"), "paths.png"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "maze_3x3_seed1", [*PICTURES, "paths.png", "film.gif"], marks=pytest.mark.slow
        ),
    ],
)
def test_pictures_suit_the_family(tmp_path: Path, run: str, expected: list[str]) -> None:
    folder = tmp_path / "pictures"
    arguments = [f"ckpt_path={CHECKPOINTS / run}.ckpt", f"path={folder}", "num_tasks=6"]
    done = run_module("look", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / name) for name in expected]
    for name in expected:
        with Image.open(folder / name) as image:
            assert min(image.size) > 100
    again = run_module("look", *arguments)
    assert again.returncode == 1
    assert again.stderr.startswith(f"error: path={folder} has files, which are not overwritten")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ckpt_path=nowhere"], "ckpt_path=nowhere is not a file"),
        ([f"ckpt_path={CHECKPOINTS}/mab_n10_k5_seed1.ckpt", "num_tasks=1"], "num_tasks=1: give"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], told: str) -> None:
    done = run_module("look", *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {told}")


def test_a_checkpoint_has_the_config_that_it_was_trained_with(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["a_notebook"])
    cfg = config_of(f"{CHECKPOINTS}/mab_n100_k10_lstm_seed1.ckpt", ["evaluation.test_tasks=7"])
    assert cfg.env.num_arms == 10
    assert cfg.trial.episodes_per_trial == 100
    assert cfg.memory._target_.endswith("LSTM")
    assert cfg.evaluation.test_tasks == 7
