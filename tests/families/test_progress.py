"""Slow work shows a bar, quick work none."""

from rl2_lightning import progress
from rl2_lightning.progress import track_slow


def test_quick_work_shows_nothing(capsys):
    assert list(track_slow(range(3), "quick")) == [0, 1, 2]
    assert not capsys.readouterr().err


def test_slow_work_shows_its_progress(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert list(track_slow(range(3), "slow")) == [0, 1, 2]
    assert "slow" in capsys.readouterr().err
