"""Ray is started and stopped, and what goes wrong in its workers is told."""

import pytest

from rl2_lightning.errors import FailedEnvironmentError
from tests.families.gymnasium.played import play_fault, tasks_of

ray = pytest.importorskip("ray", reason="pip install rl2-lightning[ray]")
pytestmark = pytest.mark.slow


def test_ray_is_started_and_stopped() -> None:
    assert not ray.is_initialized()
    env = tasks_of("Counting", "ray", tasks=[1.0, 2.0], task_by="options")
    env.reset()
    assert ray.is_initialized()
    env.close()
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raises", r":Faulty cannot play a step in the task 2: ZeroDivisionError: the pole is now"),
        ("dies", r":Faulty has lost its worker in the task .*2.*: ActorDiedError"),
        ("hangs", r":Faulty does not answer within 20 s in the task .*2"),
    ],
)
def test_faults(fault: str, told: str) -> None:
    with pytest.raises(FailedEnvironmentError, match=told):
        play_fault(fault, "ray", 20)
    assert not ray.is_initialized()
