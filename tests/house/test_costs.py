"""The benchmark of how costs grow: its table and its picture."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.costs.__main__ import BASE, CURVES, WINDOW, main, row_of
from benchmarks.costs.picture import PANELS, draw
from benchmarks.peers.loops import Lap
from benchmarks.peers.own_loop import configure
from benchmarks.peers.turns import Measured
from rl2_lightning.evaluation.images import render

LAPS = [Lap(0.2, 1.0), Lap(0.1, 0.5), Lap(9.0, 99.0)]


def test_a_row_has_the_median_of_an_env_step() -> None:
    work = replace(BASE, num_trials=100)  # 1000 env steps
    row = row_of("trials", 100, work, Measured(LAPS, megabytes=350.0), empty=300.0)
    assert row["env_steps"] == "1000"
    assert float(row["collect_us"]) == pytest.approx(200)
    assert float(row["optimise_us"]) == pytest.approx(800)
    assert row["megabytes"] == "50"


def test_a_failed_run_ends_the_benchmark() -> None:
    with pytest.raises(RuntimeError, match="trials = 100 failed: no memory"):
        row_of("trials", 100, BASE, Measured(error="no memory"), empty=0.0)


def test_curves_change_one_number() -> None:
    fields = {"trials": "num_trials", "hidden size": "hidden_size", "arms": "num_actions"}
    for curve, field in fields.items():
        assert all(replace(BASE, **{field: n}) == work for n, work in CURVES[curve].items())
    assert all(work.window == WINDOW for work in CURVES["steps in windows"].values())


def test_windows_cut_trials(tmp_path: Path) -> None:
    work = CURVES["steps in windows"][200]
    assert configure(work, str(tmp_path)).collection.window == WINDOW
    assert configure(BASE, str(tmp_path)).collection.window is None


def test_the_picture_has_a_column_for_each_number() -> None:
    rows = [
        row_of(curve, number, work, Measured(LAPS, 400.0), 300.0)
        for curve, works in CURVES.items()
        for number, work in works.items()
    ]
    figure = draw(rows)
    upper, lower = figure.axes[: len(PANELS)], figure.axes[len(PANELS) :]
    assert [axes.get_title() for axes in upper] == list(PANELS)
    assert [axes.get_xlabel() for axes in lower] == [label for label, _ in PANELS.values()]
    assert [len(axes.lines) for axes in figure.axes] == [2, 4, 2, 2, 1, 2, 1, 1]
    assert render(figure).std() > 0
    assert len(draw(rows[:3]).axes) == 2


@pytest.mark.slow
def test_costs_are_measured(tmp_path: Path) -> None:
    few = ("--curves", "arms", "--most=5", "--rounds=1", f"--folder={tmp_path}")
    main([*few, "--clock=processor"])
    with (tmp_path / "costs.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["number"] for row in found] == ["2", "5"]
    assert all(float(row[part]) > 0 for row in found for part in ("collect_us", "optimise_us"))
    assert (tmp_path / "costs.png").exists()
