"""The end of a run that is interrupted, or that can no longer write."""

import errno
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.held_out import HeldOut
from tests.builders import ROOT
from tests.command_line.program import SMALL, call_program, mistake_told
from tests.forked import forked


def stopped_in(
    words: str, folder: Path, *arguments: str, by: signal.Signals = signal.SIGTERM
) -> tuple[int, str]:
    """Send a signal once a program has printed some words; returns exit code and last line."""
    with forked([str(ROOT / "train.py"), *SMALL, *arguments], folder) as program:
        program.wait_for(words)
        program.send_signal(by)
        code = program.wait()
        return code, program.read()[1].splitlines()[-1]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_a_signal_in_a_test_is_no_success(
    tmp_path: Path, finished_run: Path, mode: str, by: signal.Signals
) -> None:
    run = tmp_path / "run"
    given = ("evaluation.test_tasks=3000000", "evaluation.batch_size=20", f"hydra.run.dir={run}")
    if mode == "test":
        given = (*given, "mode=test", f"ckpt_path={finished_run}")
    code, last = stopped_in("testing on", tmp_path, *given, by=by)
    checkpoint = (finished_run if mode == "test" else run) / "last.ckpt"
    assert code == 1
    assert last == f"stopped in the test; test it with mode=test ckpt_path={checkpoint}"
    assert not (run / "summary.json").exists()


def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = torch.save, []

    def fills_up(content: object, file: object) -> None:
        if saved:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError:
                # Like PyTorch when it closes its archive.
                raise RuntimeError("enforce fail at inline_container.cc") from None
        saved.append(file)
        save(content, file)

    monkeypatch.setattr(torch, "save", fills_up)
    run = tmp_path / "run"
    every = ("callbacks.checkpoint.every_n_epochs=1", "trainer.max_epochs=3")
    line = mistake_told(tmp_path, *SMALL, *every, f"hydra.run.dir={run}")
    last = run / "last.ckpt"
    assert (
        f"{last} cannot be written (No space left on device); resume with ckpt_path={last}" in line
    )
    assert Checkpoint.read(last).state_dict["clock.iterations_done"] == 1
    assert not list(run.glob("*.unfinished"))


def test_a_callback_ends_a_training_early(tmp_path: Path) -> None:
    run = tmp_path / "run"
    stop = (
        "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, "
        "monitor: train/return, mode: min, stopping_threshold: 100, check_on_train_epoch_end: true}"
    )
    call_program(tmp_path, *SMALL, stop, "trainer.max_epochs=5", f"hydra.run.dir={run}")
    assert (run / "summary.json").exists()
    assert Checkpoint.read(run / "last.ckpt").state_dict["clock.iterations_done"] == 1


class StopsAtABatch(Callback):
    """Stops the training after the first minibatch of an iteration."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        trainer.should_stop = True


STOP = "+callbacks.stop={_target_: tests.faults.test_ends.StopsAtABatch}"


def test_a_callback_cannot_end_a_training_within_an_iteration(tmp_path: Path) -> None:
    run = tmp_path / "run"
    call_program(tmp_path, *SMALL, STOP, "trainer.max_epochs=5", f"hydra.run.dir={run}")
    call_program(tmp_path, f"ckpt_path={run}", "trainer.max_epochs=2")


def test_a_checkpoint_within_an_iteration_cannot_be_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = (STOP, "callbacks.preemption=null", "trainer.max_epochs=5", f"hydra.run.dir={run}")
    call_program(tmp_path, *SMALL, *given, "callbacks.checkpoint.every_n_epochs=1")
    line = mistake_told(tmp_path, f"ckpt_path={run}", "trainer.max_epochs=2")
    assert "it was saved within an iteration, after 1 of its minibatches; start a new" in line


def exit_code_of(folder: Path, *arguments: str) -> object:
    """What a run in this process exits with; None if it returned."""
    try:
        call_program(folder, *arguments)
    except SystemExit as end:
        return end.code
    return None


class TerminatesAtABatch(Callback):
    """Sends SIGTERM in the second minibatch of the second iteration."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 0):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("saves", [True, False])
def test_a_signal_without_the_callback_for_it_is_no_success(tmp_path: Path, saves: bool) -> None:
    run = tmp_path / "run"
    every = "callbacks.checkpoint.every_n_epochs=1" if saves else "callbacks.throughput=null"
    code = exit_code_of(
        tmp_path,
        *SMALL,
        "+callbacks.stop={_target_: tests.faults.test_ends.TerminatesAtABatch}",
        "callbacks.preemption=null",
        "trainer.max_epochs=3",
        every,
        f"hydra.run.dir={run}",
    )
    last = run / "last.ckpt"
    remedy = f"resume with ckpt_path={last}" if saves else "there is no checkpoint yet"
    assert code == f"stopped in iteration 2; {remedy}"


def test_a_signal_while_reference_players_play_lets_the_test_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play, signalled = HeldOut.reference_curves, []

    def play_and_terminate(held_out: HeldOut) -> Mapping[str, Curve]:
        if len(held_out) == 6 and not signalled:  # the test of a small run
            signalled.append(True)
            signal.raise_signal(signal.SIGTERM)
        return play(held_out)

    monkeypatch.setattr(HeldOut, "reference_curves", play_and_terminate)
    assert exit_code_of(tmp_path, *SMALL, f"hydra.run.dir={tmp_path / 'run'}") is None
    assert signalled
    assert (tmp_path / "run" / "summary.json").exists()
