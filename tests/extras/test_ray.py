"""Ray is started and stopped, and what goes wrong in its actors is told."""

import signal
import time
from pathlib import Path

import pytest

from rl2_lightning.errors import FailedEnvironmentError, UserError
from tests.families.gymnasium.played import play_fault, tasks_of
from tests.faults.test_workers import ENDS, SENT, end, require_the_checkpoint

ray = pytest.importorskip("ray", reason="pip install rl2-lightning[ray]")
pytestmark = pytest.mark.slow

SETTINGS = {"tasks": [1.0, 2.0], "task_by": "options"}


def test_ray_is_started_and_stopped() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert not ray.is_initialized()
    first, second = (tasks_of("Counting", "ray", **SETTINGS) for _ in range(2))
    assert not ray.is_initialized()
    for env in (first, second):
        env.reset()
    assert ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before
    first.close()
    assert ray.is_initialized(), "the other environments are played"
    assert second.reset()["observation"][:, 0].tolist() == [0] * 5
    second.close()
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before
    first.close()  # again


def test_what_others_have_started_is_left(ray_of_others: None) -> None:
    env = tasks_of("Counting", "ray", **SETTINGS)
    env.reset()
    env.close()
    assert ray.is_initialized()


@pytest.fixture
def ray_of_others():
    ray.init(log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    env = tasks_of("Counting", "ray", **SETTINGS)
    with pytest.raises(
        UserError, match=r"^collection\.backend=ray can neither join nor st"
    ) as told:
        env.reset()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raises", r":Faulty cannot play a step in the task 2: ZeroDivisionError: the pole is now"),
        ("dies", r":Faulty has lost its actor \(ActorDiedError: .*\) in the task .*2"),
        ("hangs", r":Faulty does not answer within 2 s in the task 2$"),
    ],
)
def test_faults(fault: str, told: str) -> None:
    start = time.monotonic()
    with pytest.raises(FailedEnvironmentError, match=told) as caught:
        play_fault(fault, "ray", 2)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 120
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("way", "fault", "timeout", "code"), [one for one in ENDS if one[0] != "workers_signalled"]
)
def test_no_process_outlives_a_program_with_ray(
    tmp_path: Path, way: str, fault: str, timeout: float, code: int | None
) -> None:
    # An interrupt that the program does not handle ends it with 1, where Ray is used.
    expected = {1, -SENT[way]} if code is None or way == "interrupted" else {code}
    assert end(tmp_path / "pids", way, fault, timeout, "ray") in expected


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raises", "cannot play a step in the task 1.*: ZeroDivisionError: the pole is nowhere"),
        ("dies", r"has lost its actor \(ActorDiedError: .*died\) in the task .*1.*, one of these"),
        ("hangs", "does not answer within 2 s in the task 1"),
    ],
)
def test_a_fault_in_ray_keeps_the_checkpoint(tmp_path: Path, fault: str, told: str) -> None:
    require_the_checkpoint(tmp_path, fault, told, "ray")
