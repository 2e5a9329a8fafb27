"""Stop a run gracefully, also when it is preempted."""

import os
import signal
import sys
import threading
from pathlib import Path
from time import monotonic
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

from rl2_lightning.run_folder import Handler

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption(Callback):
    """Saves the last checkpoint at the end of the run, or when SIGTERM or Ctrl-C stops it.

    The first signal stops the run after the current iteration, a second one at once.

    Other callbacks may set `trainer.should_stop` at any time: it takes effect after the iteration.

    A signal to any rank stops all of them at the end of the same iteration. Lightning's own
    handlers, which would cut the iteration short, are replaced while training runs.

    Args:
        checkpoint_path: file of the checkpoint, replaced if it exists.
        seconds_to_second: a signal that arrives less than this after the first is ignored as a
            duplicate: one signal may reach a process twice, sent to the whole job and by the
            launcher to its workers.

    Raises:
        ValueError: `checkpoint_path` names no file.

    Attributes:
        preempted: whether the run was stopped and saved to `checkpoint_path`.
    """

    def __init__(self, checkpoint_path: str, seconds_to_second: float = 2.0) -> None:
        if not Path(checkpoint_path).name:
            raise ValueError(f"checkpoint_path={checkpoint_path!r} names no file")
        self.checkpoint_path = checkpoint_path
        self.preempted = False
        self._seconds_to_second = seconds_to_second
        self._received_at: float | None = None
        self._trainer: Trainer | None = None
        self._pid = 0
        self._replaced: dict[signal.Signals, Handler] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which are registered just before."""
        self.preempted, self._received_at = False, None
        # Only the main thread may set handlers.
        if threading.current_thread() is threading.main_thread():
            self._trainer, self._pid = trainer, os.getpid()
            self._replaced = {one: signal.signal(one, self._receive) for one in SIGNALS}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold back any stop to the end of the iteration, where the run can be resumed."""
        # Lightning obeys `should_stop` between two batches, once it has trained this many epochs.
        trainer.fit_loop.min_epochs = trainer.current_epoch + 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let all ranks agree to stop, at the end of the iteration so as not to cut it."""
        received = self._received_at is not None
        if trainer.strategy.reduce_boolean_decision(received, all=False):
            self.preempted = True
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last checkpoint, and restore the handlers."""
        trainer.save_checkpoint(self.checkpoint_path)
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Restore the handlers."""
        self._restore()

    def _restore(self) -> None:
        if self._trainer is not None:
            for one, handler in self._replaced.items():
                signal.signal(one, handler)
            self._trainer = None

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A process forked during training inherits this handler, but has no iteration to end.
            os._exit(128 + signum)
        now, name = monotonic(), signal.Signals(signum).name
        if self._received_at is None:
            self._received_at = now
            self._say(f"{name}: stopping after this iteration, with a checkpoint")
        elif now - self._received_at > self._seconds_to_second:
            self._say(f"second {name}: stopping at once, this iteration is lost")
            self._stop_at_once(signum)

    def _stop_at_once(self, signum: int) -> None:
        assert self._trainer is not None
        launcher = self._trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signal.SIGKILL)
        sys.exit(128 + signum)

    def _say(self, text: str) -> None:
        # print and logging are not reentrant: the signal may have interrupted them.
        if self._trainer is not None and self._trainer.is_global_zero:
            os.write(2, f"\n{text}\n".encode())
