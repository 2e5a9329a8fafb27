"""Slow work shows one bar, quick work none."""

import pytest

from rl2_lightning.oracles import progress
from rl2_lightning.oracles.progress import track_slow


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", -1.0)


def test_quick_work_shows_nothing():
    for _ in track_slow(range(3), "quick"):
        assert not progress._bars_on_screen


def test_slow_work_shows_its_progress(impatient):
    for done, _ in enumerate(track_slow(range(3), "slow")):
        (bar,) = progress._bars_on_screen
        assert bar.tasks[0].completed == done
    assert not progress._bars_on_screen


def test_an_inner_loop_stays_silent(impatient):
    for _ in track_slow(range(2), "outer"):
        for _ in track_slow(range(2), "inner"):
            (bar,) = progress._bars_on_screen
            assert bar.tasks[0].description == "outer"


def test_an_interrupted_loop_takes_its_bar_away(impatient):
    loop = track_slow(range(3), "slow")
    next(loop)
    loop.close()
    assert not progress._bars_on_screen
