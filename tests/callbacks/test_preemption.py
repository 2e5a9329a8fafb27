"""SIGTERM stops a run after a whole iteration on all ranks, and the run can be resumed."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from rl2_lightning.callbacks.preemption import Preemption
from tests.callbacks.tiny_fit import BATCHES, TinyAgent, TinyData, make_trainer

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds for a process to start or to end on a busy machine


class At(Callback):
    """Does something in the middle of an iteration."""

    def __init__(self, action, iteration: int = 2, batches=(0,)) -> None:
        self.action, self.iteration, self.batches = action, iteration, batches

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.iteration and batch_idx in self.batches:
            self.action()


def terminate_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_ends_the_iteration_and_the_resumed_run_is_the_same(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    checkpoint = tmp_path / "last.ckpt"
    preemption = Preemption(str(checkpoint))
    agent = TinyAgent()
    # Twice, like a job's signal, which reaches a rank directly and through its launcher.
    trainer = make_trainer([preemption, At(terminate_this_process, batches=(0, 1))], max_epochs=5)
    trainer.fit(agent, TinyData())
    assert preemption.preempted
    assert trainer.current_epoch == 3
    assert agent.batches == 3 * BATCHES
    assert signal.getsignal(signal.SIGTERM) is before

    resumed, whole = TinyAgent(), TinyAgent()
    make_trainer([], max_epochs=5).fit(resumed, TinyData(), ckpt_path=checkpoint)
    make_trainer([], max_epochs=5).fit(whole, TinyData())
    assert resumed.batches == whole.batches == 5 * BATCHES
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_a_callback_that_stops_within_an_iteration_is_held_back_to_its_end(tmp_path: Path):
    def stop() -> None:
        trainer.should_stop = True

    agent = TinyAgent()
    trainer = make_trainer([Preemption(str(tmp_path / "last.ckpt")), At(stop)], max_epochs=5)
    trainer.fit(agent, TinyData())
    assert trainer.current_epoch == 3
    assert agent.batches == 3 * BATCHES


def test_a_second_signal_stops_at_once(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    preemption = Preemption(str(tmp_path / "last.ckpt"), seconds_to_second=0.0)
    agent = TinyAgent(seconds_per_batch=0.01)
    trainer = make_trainer([preemption, At(terminate_this_process, batches=(0, 1))], max_epochs=5)
    with pytest.raises(SystemExit) as stop:
        trainer.fit(agent, TinyData())
    assert stop.value.code == 128 + signal.SIGTERM
    assert agent.batches == 2 * BATCHES + 2
    assert not (tmp_path / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_without_a_signal_goes_on_to_its_end_and_is_saved(tmp_path: Path):
    preemption = Preemption(str(tmp_path / "last.ckpt"))
    trainer = make_trainer([preemption], max_epochs=2)
    trainer.fit(TinyAgent(), TinyData())
    assert not preemption.preempted
    assert trainer.current_epoch == 2
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 2


def test_a_worker_that_training_forked_off_can_be_terminated(tmp_path: Path):
    codes = []

    def fork_and_terminate() -> None:
        context = multiprocessing.get_context("fork")
        ready = context.Event()
        worker = context.Process(target=lambda: ready.set() or time.sleep(PATIENCE))
        worker.start()
        assert ready.wait(PATIENCE)
        worker.terminate()
        worker.join(PATIENCE)
        codes.append(worker.exitcode)

    preemption = Preemption(str(tmp_path / "last.ckpt"))
    trainer = make_trainer([preemption, At(fork_and_terminate, iteration=0)], max_epochs=1)
    trainer.fit(TinyAgent(), TinyData())
    assert codes == [128 + signal.SIGTERM]
    assert not preemption.preempted


def start_rank(folder: Path, rank: int, port: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.callbacks.tiny_fit", str(folder), str(rank)]
    with (folder / f"log_{rank}").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def test_two_ranks_stop_together_when_one_is_signalled(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [start_rank(tmp_path, rank, port) for rank in range(2)]
    try:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "running_1").exists():
            assert time.monotonic() < deadline, (tmp_path / "log_1").read_text()
            time.sleep(0.05)
        ranks[1].send_signal(signal.SIGTERM)
        assert [process.wait(PATIENCE) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    ends = [json.loads((tmp_path / f"end_{rank}.json").read_text()) for rank in range(2)]
    assert ends[0] == ends[1]
    assert ends[0]["preempted"]
    assert ends[0]["batches"] == BATCHES * ends[0]["iterations"]
    assert (tmp_path / "last.ckpt").exists()
    shown = [(tmp_path / f"log_{rank}").read_text().count("steps/s") for rank in range(2)]
    assert shown[0] >= ends[0]["iterations"]
    assert shown[1] == 0
