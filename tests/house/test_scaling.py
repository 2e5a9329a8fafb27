"""The benchmark of several devices: its model, its tables and its picture."""

import csv
from pathlib import Path

import pytest

from benchmarks.scaling.__main__ import BATCHES, DEVICES, main, measured, rows_of
from benchmarks.scaling.model import Lap, Terms
from benchmarks.scaling.picture import draw
from rl2_lightning.evaluation.images import render

# Of 10 s, 2 s are each device's own; a sum of gradients takes 0.1 s, a quarter of it as a message.
FULL, HALF = Lap(4.0, 6.0), Lap(2.5, 3.5)
TERMS = Terms.of(FULL, HALF, updates=8, empty=0.025, gradients=0.1)
ROUNDS = [{"one": FULL, "half": HALF, "beside": Lap(3, 4), "fixed": HALF, "growing": Lap(5.0, 7.0)}]


def test_terms_are_shares_of_an_iteration() -> None:
    parts = (TERMS.alone, TERMS.collect, TERMS.learn, TERMS.sum_of_gradients(2))
    assert parts == pytest.approx((0.2, 0.3, 0.5, 0.01))
    assert TERMS.iteration(1, growing=False) == pytest.approx(1)
    assert TERMS.iteration(2, growing=False) == pytest.approx(0.2 + 0.8 / 2 + 8 * 0.01)
    assert TERMS.iteration(2, growing=True) == pytest.approx(1 + 8 * 0.01)


def test_a_sum_over_a_ring_sends_each_number_almost_twice() -> None:
    transfer, latency = TERMS.transfer, TERMS.latency
    for num in (2, 4, 16):
        expected = 2 * (num - 1) * latency + 2 * (num - 1) / num * transfer
        assert TERMS.sum_of_gradients(num) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("half", "alone"),
    [(Lap(4.0, 6.0), 1.0), (Lap(5.0, 7.0), 1.0), (Lap(2.0, 3.0), 0.0), (Lap(1.0, 1.0), 0.0)],
)
def test_no_term_is_negative(half: Lap, alone: float) -> None:
    terms = Terms.of(FULL, half, updates=1, empty=0.2, gradients=0.1)
    assert terms.alone == pytest.approx(alone)
    assert min(terms.collect, terms.learn, terms.transfer) >= 0


def test_a_speed_up_counts_the_trials() -> None:
    assert measured(ROUNDS, "fixed") == pytest.approx([10 / 6])
    assert measured(ROUNDS, "growing") == pytest.approx([2 * 10 / 12])


def test_the_picture_shows_both_batches_and_both_curves() -> None:
    curves = [
        {"devices": num, "seed": seed, "env_steps": steps, "return_greedy": "6.1"}
        for num in "12"
        for seed in "12"
        for steps in ("100", "200")
    ]
    figure = draw(rows_of(TERMS, ROUNDS), curves)
    left, right = figure.axes
    assert {len(one.get_legend().get_texts()) for one in (left, right)} == {5, 2}
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert render(figure).std() > 0


def test_the_table_has_the_model_and_what_was_measured() -> None:
    rows = rows_of(TERMS, ROUNDS)
    found = {(row["quantity"], row["batch"], row["devices"]): row["value"] for row in rows}
    assert float(found["L / T(1)", "", ""]) == pytest.approx(0.5)
    assert float(found["time of a run beside another", "", ""]) == pytest.approx(7 / 6, abs=1e-3)
    assert float(found["speed-up, measured", "fixed", "2"]) == pytest.approx(10 / 6, abs=1e-3)
    modelled = TERMS.speed_up(16, growing=True)
    assert float(found["speed-up, modelled", "growing", "16"]) == pytest.approx(modelled, abs=1e-3)
    assert len(rows) == len(found) == 5 + len(BATCHES) * (1 + len(DEVICES))


@pytest.mark.slow
def test_two_devices_are_measured(tmp_path: Path) -> None:
    few = ("--rounds=1", "--trials=32", "--seeds=1", f"--folder={tmp_path}")
    learning = ("collection.num_trials=32", "collection.total_env_steps=1920")
    timed = ("memory.hidden_size=8", "trainer.max_epochs=4")
    main([*few, "--learning", *learning, "evaluation.validation_tasks=10", "--", *timed])
    with (tmp_path / "scaling.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["quantity"] == "speed-up, measured"]
    assert all(float(row["value"]) > 0 for row in found)
    assert (tmp_path / "scaling_learning.csv").read_text().count("\n") == 1 + 2 * 2
    assert (tmp_path / "scaling.png").exists()
