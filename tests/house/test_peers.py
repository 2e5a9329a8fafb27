"""The comparison with other loops: turns, ratios and what a loop has to do."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest

from benchmarks.peers import optimum
from benchmarks.peers.__main__ import beside, loops_of, main, ratios
from benchmarks.peers.loops import Lap
from benchmarks.peers.optimum import Point, best_return, own_points, reached, row_of
from benchmarks.peers.own_loop import configure, learner_of, num_parameters
from benchmarks.peers.turns import Loop, Measured, take_turns
from benchmarks.peers.work import ROWS, Work
from benchmarks.throughput import operations
from tests.builders import compose_config

TINY = Work("bernoulli_bandit", 2, 3, "gru", 4, num_trials=4)


def test_loops_take_turns() -> None:
    loops = {"own": Loop("own", TINY), "broken": Loop("none", TINY)}
    found = take_turns(loops, num_rounds=2, num_threads=1, warm_up=1)
    first, second = found["own"].laps
    for lap in (first, second):
        assert lap.collect is not None
        assert 0 < lap.collect < lap.whole
    assert found["own"].megabytes > 10
    assert found["broken"].error == "KeyError: 'none'"
    assert not found["broken"].laps


def test_ratios_are_those_of_a_round() -> None:
    own = Measured([Lap(1.0, 3.0), Lap(2.0, 4.0)])
    other = Measured([Lap(2.0, 9.0), Lap(1.0, 2.0)])
    assert ratios(own, other, "collecting") == [2.0, 0.5]
    assert ratios(own, other, "optimising") == [3.5, 0.5]
    assert ratios(own, other, "the whole") == [3.0, 0.5]
    assert not ratios(own, Measured([Lap(None, 1.0), Lap(None, 1.0)]), "collecting")
    found = {"own": own, "own, 2 memories": other, "memorax": Measured([Lap(None, 18.0)] * 2)}
    assert beside("memorax", "the whole", found) == "5.50 (3.75–7.25)"


@pytest.mark.parametrize("has_two_memories", [False, True])
def test_operations_are_those_of_the_throughput(tmp_path, has_two_memories: bool) -> None:
    work = replace(TINY, has_two_memories=has_two_memories)
    counted = operations(configure(work, str(tmp_path)))
    # There the critic's layer for the elapsed time counts, and its other layers in collecting.
    assert work.operations == pytest.approx(counted, rel=0.1)


def test_a_matrix_memory_is_beside_an_lstm_of_its_size() -> None:
    work = ROWS["bandit_n10_k5/matrix64"]
    twin = next(
        loop.work for label, loop in loops_of(work, ["jax"], {}, None).items() if "LSTM" in label
    )
    assert num_parameters(twin) == pytest.approx(num_parameters(work), rel=0.02)
    assert twin.memory == "lstm"


def test_memorax_is_beside_two_memories() -> None:
    loops = loops_of(TINY, ["jax", "memorax"], {"memorax": "/other/python"}, None)
    assert loops["memorax"].python == "/other/python"
    assert loops["memorax"].work == loops["own, 2 memories"].work
    assert learner_of(loops["memorax"].work).critic.is_separate
    assert not learner_of(loops["jax"].work).critic.is_separate


def test_unknown_row(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["bandit_n10_k5/gru63"])
    assert "bandit_n10_k5/gru63 is no row" in capsys.readouterr().err


def test_the_optimum_is_approached() -> None:
    short = ["collection.num_trials=64", "collection.total_env_steps=2600"]
    points = own_points(1, 2, 50, perf_counter, short)
    assert [point.env_steps for point in points] == [1280, 2560]
    assert 0 < points[0].seconds < points[1].seconds
    assert all(3 < point.reached < 8 for point in points)


def test_first_evaluation_that_is_good_enough() -> None:
    points = [Point(1, 1.0, 5.0), Point(2, 2.0, 6.4), Point(3, 3.0, 6.3), Point(4, 4.0, 6.7)]
    assert reached(points, best=6.5, share=0.95) == points[1]
    assert reached(points, best=6.5, share=0.99) == points[3]
    assert reached(points[:1], best=6.5, share=0.95) is None
    row = row_of("own", 1, points[:3], best=6.5)
    assert row == ["own", "1", "96.9%", "0.0", "2", "2.0", "–", "–", "3.0"]
    assert best_return() == pytest.approx(6.66, abs=0.005)


def test_the_default_run_is_what_the_loop_in_jax_does(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path)
    assert cfg.collection.total_env_steps == optimum.BUDGET
    assert optimum.WORK.num_trials == cfg.collection.num_trials
    assert optimum.WORK.num_minibatches == cfg.learner.num_minibatches
    assert optimum.WORK.num_epochs == cfg.learner.num_epochs
    assert optimum.WORK.hidden_size == cfg.memory.hidden_size
    assert {name: cfg.learner[name] for name in optimum.SETTINGS} == optimum.SETTINGS
