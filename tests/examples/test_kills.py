"""What the service has acknowledged survives its being killed."""

from pathlib import Path

import pytest

from examples.personalisation.kill_test import Report, run_kill_test
from tests.examples.agents import CHECKPOINT


def kill(folder: Path, kills: int) -> Report:
    sizes = {"users": 24, "clients": 8, "seconds": 0.3, "seed": 1}
    return run_kill_test(str(CHECKPOINT), folder, kills=kills, **sizes)


def test_no_acknowledged_memory_is_lost(tmp_path: Path) -> None:
    report = kill(tmp_path, 4)
    assert report.differences == []
    assert min(report.decisions, report.rewards, report.in_doubt, report.compared) > 0


@pytest.mark.slow
def test_no_acknowledged_memory_is_lost_in_many_kills(tmp_path: Path) -> None:
    report = kill(tmp_path, 200)
    assert report.differences == []
    assert report.decisions > 2000
