"""A faulty family is named in one line, without results or a corrupt file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from rl2_lightning.checkpoint import Checkpoint
from tests.command_line.program import SMALL, call_program, mistake_told
from tests.faults.faulty import FAULTS, Faulty

FAULTY = (*SMALL, "env._target_=tests.faults.faulty.Faulty", "~env.num_arms", "memory=gru")
# The number of tasks played at once, in training and in the held-out play of `SMALL`.
PLACES = {"training": 8, "validation": 4, "test": 6}
NUMBERS = [name for name in FAULTS if name.startswith(("nan_", "infinite_"))]
SHAPES = [name for name in FAULTS if name.startswith(("double", "flat", "narrow", "too_few"))]


def of(fault: str, **fields: object) -> list[str]:
    return [f"+env.fault={fault}", *(f"+env.{name}={value}" for name, value in fields.items())]


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", NUMBERS)
def test_numbers_that_are_not_finite(
    tmp_path: Path, fault: str, place: str, continuous: bool
) -> None:
    chosen = of(fault, at_tasks=PLACES[place], continuous=continuous)
    run = tmp_path / "run"
    line = mistake_told(tmp_path, *FAULTY, *chosen, f"hydra.run.dir={run}")
    assert "Faulty returned a" in line
    assert "non-finite" in line
    assert not (run / "summary.json").exists()
    if place == "training":
        assert line.endswith("there is no checkpoint yet")
        assert not (run / "last.ckpt").exists()
        return
    # The previous iteration is saved, and can be resumed from.
    assert line.endswith(f"resume with ckpt_path={run / 'last.ckpt'}") == (place == "test")
    if (run / "last.ckpt").exists():
        assert Checkpoint.read(run / "last.ckpt").state_dict["clock.iterations_done"] == 1


@pytest.mark.parametrize("fault", SHAPES)
def test_what_the_specs_do_not_say(tmp_path: Path, fault: str) -> None:
    line = mistake_told(tmp_path, *FAULTY, *of(fault))
    assert line.startswith("error: Faulty.")
    assert ": return " in line


class TwoValues(Faulty):
    """Forgets the end of the episode."""

    def advance(self, action: Tensor, playing: Tensor) -> Any:
        return super().advance(action, playing)[:2]


class OtherArguments(Faulty):
    """Does not take the number of tasks."""

    def __init__(self, tasks: int, **settings: Any) -> None:
        super().__init__(tasks, **settings)


class NanTasks(Faulty):
    """Draws tasks that are no numbers."""

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        return super().sample_tasks(num_tasks).apply(lambda parameter: parameter * torch.nan)


class NoTasks(Faulty):
    """Draws nothing."""

    def sample_tasks(self, num_tasks: int) -> Any:
        return None


class OtherShapes(Faulty):
    """Fails in a product of matrices."""

    def begin_episodes(self, rows: Tensor) -> Tensor:
        return torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize(
    ("family", "told"),
    [
        (TwoValues, "TwoValues.advance does not do what TaskEnv says: ValueError: not enough"),
        (OtherArguments, "OtherArguments.__init__ does not do what TaskEnv says: TypeError: "),
        (NanTasks, "NanTasks.sample_tasks returns a non-finite place: fix the environment"),
        (NoTasks, "NoTasks.sample_tasks does not do what TaskEnv says: "),
        (OtherShapes, "OtherShapes.begin_episodes does not do what TaskEnv says: RuntimeError: "),
    ],
)
def test_methods_that_break_the_contract(tmp_path: Path, family: type, told: str) -> None:
    target = f"env._target_={__name__}.{family.__name__}"
    line = mistake_told(tmp_path, *SMALL, target, "~env.num_arms", "memory=gru")
    assert line.startswith(f"error: {told}")


def test_an_end_before_the_time(tmp_path: Path) -> None:
    line = mistake_told(tmp_path, *FAULTY, *of("early_end"))
    assert "Faulty has ended an episode before its 4 steps: set ends_early = True" in line


def test_rewards_beyond_what_can_be_squared(tmp_path: Path) -> None:
    run = tmp_path / "run"
    chosen = of("huge_reward", at_tasks=PLACES["training"])
    line = mistake_told(tmp_path, *FAULTY, *chosen, f"hydra.run.dir={run}")
    assert "whose square is beyond float32: scale down the rewards of the environment" in line
    assert not (run / "last.ckpt").exists()


def test_the_unit_of_actions_does_not_matter(tmp_path: Path) -> None:
    reached = []
    for number, (low, high) in enumerate([(-1, 1), (0, 1024)]):
        run = tmp_path / str(number)
        chosen = of("none", continuous=True, low=low, high=high)
        many = ("collection.num_trials=64", "learner.num_minibatches=4", "learner.num_epochs=4")
        more = ("trainer.max_epochs=5", "evaluation.test_tasks=64", "trainer.gradient_clip_val=1")
        call_program(tmp_path, *FAULTY, *chosen, *many, *more, f"hydra.run.dir={run}")
        reached.append(json.loads((run / "summary.json").read_text())["agent"])
    for mode in ("greedy", "sampled"):
        ours, theirs = (one[mode]["trial_return"] for one in reached)
        assert ours == pytest.approx(theirs, abs=0.02)
