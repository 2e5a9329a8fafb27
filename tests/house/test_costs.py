"""The benchmark of how costs grow: its table and its picture."""

import csv
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.costs.__main__ import BASE, CURVES, WINDOW, main, read, row_of, write
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


@pytest.mark.parametrize("curve", CURVES)
def test_a_curve_changes_one_number(curve: str) -> None:
    works = [asdict(work) for work in CURVES[curve].values()]
    changed = [name for name in works[0] if len({work[name] for work in works}) > 1]
    assert (
        changed == ["num_episodes", "num_minibatches"] if "windows" in curve else len(changed) == 1
    )
    assert [work[changed[0]] for work in works] == list(CURVES[curve])
    assert {work["window"] for work in works} == {WINDOW if "windows" in curve else None}


def test_windows_cut_trials(tmp_path: Path) -> None:
    work = CURVES["steps in windows"][200]
    assert configure(work, str(tmp_path)).collection.window == WINDOW
    assert configure(BASE, str(tmp_path)).collection.window is None


def test_a_curve_is_measured_again_without_loss_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    rows = {
        curve: row_of(curve, 100, BASE, Measured(LAPS, 400.0), 300.0)
        for curve in ("arms", "trials")
    }
    write(path, [rows["arms"]])
    write(path, [rows["trials"]])
    write(path, [rows["arms"]])
    assert read(path) == [rows["trials"], rows["arms"]]


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
