"""A training that begins with the weights of another one."""

from pathlib import Path

import pytest
import torch

from tests.command_line.program import SMALL, call_program

LONGER = ("trial.episodes_per_trial=6", "collection.total_env_steps=48")


def train(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    call_program(folder, *SMALL, *overrides, f"hydra.run.dir={folder}")
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def weights_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts = ("agent.", "critic.")
    return {name: tensor for name, tensor in state.items() if name.startswith(parts)}


def value_scale_of(state: dict[str, torch.Tensor]) -> tuple[float, float]:
    mean = state["value_scale.running_mean"] / state["value_scale.debiasing_term"]
    mean_square = state["value_scale.running_mean_sq"] / state["value_scale.debiasing_term"]
    return mean.item(), mean_square.item()


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
    # Trials of six pulls in place of two: values are three times as large.
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
