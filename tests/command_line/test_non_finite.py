"""A non-finite loss stops the run at once; the last good checkpoint is kept and named."""

from pathlib import Path

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.learners.ppo import PPO
from tests.command_line.program import PLAIN, call_program, mistake_told, run_program

ENV_STEPS = 16  # of an iteration: 8 trials of 2 steps
EVERY_ITERATION = (*PLAIN, "callbacks.checkpoint.every_n_epochs=1", "trainer.max_epochs=4")


def assert_good(checkpoint: Path, iterations: int) -> None:
    content = torch.load(checkpoint, weights_only=True)
    assert content["state_dict"]["clock.env_steps_done"] == iterations * ENV_STEPS
    states = [*content["state_dict"].values()]
    states += [
        s for state in content["optimizer_states"][0]["state"].values() for s in state.values()
    ]
    assert all(state.isfinite().all() for state in states)


def poison_third_iteration(monkeypatch: pytest.MonkeyPatch, key: str | tuple[str, ...]) -> None:
    """Put a NaN into a collected reward, or into an entry that the loss reads."""
    prepare = PPO.prepare

    def poisoned(self, trials, state_steps):
        if self.current_epoch == 2 and key == keys.REWARD:
            trials[keys.STEPS][key][0, 0] = torch.nan
        prepared = prepare(self, trials, state_steps)
        if self.current_epoch == 2 and key != keys.REWARD:
            prepared[keys.STEPS][key][0, 0] = torch.nan
        return prepared

    monkeypatch.setattr(PPO, "prepare", poisoned)


def test_an_absurd_learning_rate_ends_in_one_line(tmp_path: Path, finished_run: Path) -> None:
    checkpoint = finished_run / "last.ckpt"
    done = run_program(
        tmp_path,
        *PLAIN,
        "trainer.max_epochs=3",
        "learner.learning_rate=1e30",
        f"ckpt_path={checkpoint}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the weights' norm is inf after ")
    assert done.stderr.endswith(f"resume with ckpt_path={checkpoint}\n")
    assert "lower learner.learning_rate" in done.stderr
    assert done.stderr.count("\n") == 1
    assert_good(checkpoint, iterations=1)
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_without_a_checkpoint_there_is_none_to_name(tmp_path: Path) -> None:
    told = mistake_told(tmp_path, *PLAIN, "learner.learning_rate=1e30")
    assert told.endswith("; there is no checkpoint yet")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (keys.REWARD, "a collected reward or value is nan after 32 env steps: "),
        (keys.ADVANTAGE, "the loss is nan after 48 env steps: "),
    ],
)
def test_the_last_good_checkpoint_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | tuple[str, ...], told: str
) -> None:
    poison_third_iteration(monkeypatch, key)
    line = mistake_told(tmp_path, *EVERY_ITERATION, f"hydra.run.dir={tmp_path}")
    last = tmp_path / "last.ckpt"
    assert line.startswith(f"error: {told}")
    assert line.endswith(f"; resume with ckpt_path={last}")
    assert_good(last, iterations=2)
    monkeypatch.undo()
    call_program(
        tmp_path, *EVERY_ITERATION, f"hydra.run.dir={tmp_path / 'on'}", f"ckpt_path={last}"
    )
    assert_good(tmp_path / "on" / "last.ckpt", iterations=4)


def test_an_infinite_gradient_reaches_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learners, weights = [], []

    def spoil(self) -> None:
        learners[:] = [self]
        weights[:] = [parameter.detach().clone() for parameter in self.parameters()]
        if self.current_epoch == 1:
            next(self.agent.parameters()).grad[0, 0] = torch.inf

    monkeypatch.setattr(PPO, "on_after_backward", spoil)
    told = mistake_told(tmp_path, *EVERY_ITERATION, f"hydra.run.dir={tmp_path}")
    assert told.startswith("error: the gradient's norm is inf after 32 env steps: ")
    assert_good(tmp_path / "last.ckpt", iterations=1)
    for before, after in zip(weights, learners[0].parameters(), strict=True):
        assert torch.equal(before, after)
