"""A training that starts from the weights of another one."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from rl2_lightning.learners.ppo import PPO
from tests.command_line.program import PLAIN, call_program, mistake_told

LONGER = ("trial.episodes_per_trial=6", "collection.total_env_steps=48")


def train(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    call_program(folder, *PLAIN, *overrides, f"hydra.run.dir={folder}")
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def weights_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts = ("agent.", "critic.")
    return {name: tensor for name, tensor in state.items() if name.startswith(parts)}


def value_scale_of(state: dict[str, torch.Tensor]) -> tuple[float, float]:
    mean = state["value_scale.running_mean"] / state["value_scale.debiasing_term"]
    mean_square = state["value_scale.running_mean_sq"] / state["value_scale.debiasing_term"]
    return mean.item(), mean_square.item()


@dataclass
class OtherSettings(PPO.Settings):
    """Settings of the other learner."""

    novel: float = 1.0


class Other(PPO):
    """Another learner."""

    Settings = OtherSettings


OTHER = f"learner._target_={__name__}.Other"
SEES = "learner.critic.sees_task=true"


@pytest.fixture(scope="module")
def start(finished_run: Path) -> Path:
    return finished_run / "last.ckpt"


def test_weights_are_taken_and_counting_begins_anew(tmp_path: Path, start: Path) -> None:
    still = ("learner.learning_rate=0", "learner.value_norm_decay=0.99999")
    taken = train(tmp_path, *LONGER, *still, f"start_from={start}")
    before = torch.load(start, weights_only=True)["state_dict"]
    for name, tensor in weights_of(before).items():
        torch.testing.assert_close(weights_of(taken)[name], tensor, rtol=0, atol=0)
    assert int(taken["clock.env_steps_done"]) == 48
    assert int(taken["clock.iterations_done"]) == 1
    # Trials of six pulls instead of two: values are three times as large.
    (mean, mean_square), (old_mean, old_mean_square) = map(value_scale_of, (taken, before))
    assert mean == pytest.approx(3 * old_mean, rel=0.01)
    assert mean_square == pytest.approx(9 * old_mean_square, rel=0.01)


def test_without_it_a_training_begins_with_weights_of_its_own(tmp_path: Path, start: Path) -> None:
    own = train(tmp_path, "seed=2", "learner.learning_rate=0")
    before = torch.load(start, weights_only=True)["state_dict"]
    assert any(
        not torch.equal(tensor, weights_of(own)[name])
        for name, tensor in weights_of(before).items()
    )


def test_a_training_that_is_resumed_does_not_begin_again(tmp_path: Path, start: Path) -> None:
    fields = ("start_from=no_longer_there.ckpt", f"ckpt_path={start}")
    resumed = train(tmp_path, *fields, "trainer.max_epochs=2", "collection.total_env_steps=32")
    assert int(resumed["clock.iterations_done"]) == 2


@pytest.mark.filterwarnings("ignore:start_from=.* starting anew")
def test_another_learner_begins_with_the_agent_alone(tmp_path: Path, start: Path) -> None:
    before = torch.load(start, weights_only=True)["state_dict"]
    taken = train(tmp_path, OTHER, "learner.learning_rate=0", f"start_from={start}")
    assert int(taken["clock.iterations_done"]) == 1
    same = {
        part: all(
            torch.equal(tensor, taken[name])
            for name, tensor in before.items()
            if name.startswith(part)
        )
        for part in ("agent.", "critic.")
    }
    assert same == {"agent.": True, "critic.": False}


def test_a_critic_that_does_not_fit_begins_anew(tmp_path: Path, start: Path) -> None:
    before = torch.load(start, weights_only=True)["state_dict"]
    with pytest.warns(UserWarning, match=r"has no critic of this learner: starting anew"):
        taken = train(tmp_path, SEES, "learner.learning_rate=0", f"start_from={start}")
    agent = {name: one for name, one in before.items() if name.startswith("agent.")}
    assert all(torch.equal(tensor, taken[name]) for name, tensor in agent.items())


@pytest.mark.parametrize("other", [OTHER, SEES])
def test_a_test_needs_no_learner(tmp_path: Path, start: Path, other: str) -> None:
    for folder, more in (("own", ()), ("other", (other,))):
        run = f"hydra.run.dir={tmp_path / folder}"
        call_program(tmp_path, *PLAIN, "mode=test", f"ckpt_path={start}", run, *more)
    own, others = (
        json.loads((tmp_path / folder / "summary.json").read_text()) for folder in ("own", "other")
    )
    for name in ("agent", "iterations", "env_steps", "training_seconds"):
        assert own[name] == others[name], name
    assert own["iterations"] == 1
    assert own["training_seconds"] > 0


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("seed=2", "was trained with seed=1, this run has 2: set seed=1"),
        (
            "trial.episodes_per_trial=3",
            "was trained with trial.episodes_per_trial=2, this run has 3: set",
        ),
        (OTHER, "was trained with learner._target_="),
    ],
)
def test_a_training_is_not_resumed_as_another(
    tmp_path: Path, start: Path, typed: str, told: str
) -> None:
    assert told in mistake_told(tmp_path, *PLAIN, f"ckpt_path={start}", typed)
    folder = tmp_path / "run"
    use = ("mode=test", f"ckpt_path={start}", typed, f"hydra.run.dir={folder}")
    call_program(tmp_path, *PLAIN, *use)
    assert (folder / "summary.json").exists()


@pytest.mark.parametrize("field", ["start_from", "ckpt_path"])
def test_another_memory_is_told_by_the_name_of_its_file(
    tmp_path: Path, start: Path, field: str
) -> None:
    line = mistake_told(tmp_path, *PLAIN, "memory=lstm", f"{field}={start}")
    assert line.startswith(f"error: {field}={start} was trained with memory._target_=")
    assert line.endswith(": set memory=gru or give another checkpoint")
