"""Curves as files."""

import math
from pathlib import Path

import pytest
import torch

from results.curves import read_curves, write_curves
from rl2_lightning.evaluation.adaptation_curve import Curve
from tests.results.builders import straight_curve


def test_curves_are_read_as_they_were_written(tmp_path: Path) -> None:
    curves = {"psrl": straight_curve(1913.7254, 25), "optimal": straight_curve(2178.0, 25, 3.0)}
    write_curves(tmp_path / "curves.csv", "some tasks", curves)
    origin, read = read_curves(tmp_path / "curves.csv")
    assert origin == "some tasks"
    assert list(read) == ["psrl", "optimal"], "the reference stays last"
    for name, curve in curves.items():
        torch.testing.assert_close(read[name].mean, curve.mean, atol=5e-5, rtol=0)
        assert torch.equal(read[name].half_width, curve.half_width)
        assert read[name].trial_return == pytest.approx(curve.trial_return, abs=5e-5)
        assert read[name].trial_half_width == curve.trial_half_width
        assert read[name].num_trials == 100


def test_what_was_read_is_written_alike(tmp_path: Path) -> None:
    first, again = tmp_path / "first.csv", tmp_path / "again.csv"
    write_curves(first, "seed 7", {"random": straight_curve(4.99995, 10)})
    write_curves(again, *read_curves(first))
    assert first.read_bytes() == again.read_bytes()
    *_, episode, trial = first.read_text().splitlines()
    assert episode.startswith("random,10,")
    assert trial.startswith("random,trial,")


def test_what_was_not_measured_stays_so(tmp_path: Path) -> None:
    nothing = torch.full((2,), math.nan, dtype=torch.float64)
    write_curves(
        tmp_path / "curves.csv", "seed 7", {"random": Curve(nothing, nothing, 1.0, math.nan, 1)}
    )
    curve = read_curves(tmp_path / "curves.csv")[1]["random"]
    assert curve.mean.isnan().all()
    assert math.isnan(curve.trial_half_width)
