"""A progress bar over the iterations of a run."""

import math
from datetime import timedelta
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich import get_console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from rl2_lightning.callbacks.evaluation import held_out_of
from rl2_lightning.callbacks.outcome import OutcomeReader, env_steps_of, outcome_of


class IterationProgressBar(ProgressBar, OutcomeReader):
    """Shows phase, iteration, return, share of the reference, speed and remaining time in one line.

    If standard output is not a terminal, it prints a plain line from time to time. Only rank zero
    prints.

    Args:
        seconds_between_lines: minimum time between two plain lines.
    """

    def __init__(self, seconds_between_lines: float = 10.0) -> None:
        super().__init__()
        self._seconds_between_lines = seconds_between_lines
        self._enabled = True
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._share = ""
        self._printed_at = -math.inf
        self._started_at = 0.0
        self._steps_at_start = 0

    def enable(self) -> None:
        """Show progress from the next stage on."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing from now on."""
        self._enabled = False
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        get_console().print(*args, **kwargs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar, at the current iteration of a resumed run."""
        total = None if trainer.max_epochs in (None, -1) else trainer.max_epochs
        self._open("training", total, trainer.current_epoch)
        self._started_at = monotonic()
        self._steps_at_start = env_steps_of(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the results of the last iteration, and that the next one is collecting."""
        # The last iteration's metrics are only now reduced over the ranks. Reading them at its end
        # would make rank zero reduce them alone and wait forever for the others.
        self._show_iteration(trainer, pl_module)
        self._update(description="collecting")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Show that the collected trials are being optimised on."""
        if batch_idx == 0:
            self._update(description="optimising")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show that the held-out tasks are being played."""
        self._update(description="validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the greedy agent's share of the reference."""
        if self._enabled and not trainer.sanity_checking:
            outcome = outcome_of(trainer, pl_module, "validation")
            held_out = outcome.held_out
            share = held_out.share_of_reference(outcome.agents["greedy"])
            self._share = "" if share is None else f"{share:.1%} of {held_out.reference}"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last iteration's line on the console."""
        self._printed_at = -math.inf
        self._show_iteration(trainer, pl_module)
        self._close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar for the test."""
        num_tasks = len(held_out_of(trainer, "test"))
        words = f"testing on {num_tasks:,} held-out tasks"
        self._open(words, sum(trainer.num_test_batches), 0)
        self._printed_at = -math.inf
        self._print_line(words)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Advance the test's bar."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the test's bar."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self._close()

    def _open(self, description: str, total: float | None, completed: int) -> None:
        self._close()
        if not self._enabled:
            return
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description} {task.fields[count]}"),
            BarColumn(bar_width=8),  # for a line of 80 characters in total
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            refresh_per_second=4,
            # Estimate the remaining time over the whole run: an iteration may take minutes.
            speed_estimate_period=math.inf,
        )
        self._task = self._progress.add_task(
            description, total=total, completed=completed, count="", status=""
        )
        if self._progress.console.is_interactive:
            self._progress.start()

    def _close(self) -> None:
        if self._progress is not None and self._progress.live.is_started:
            self._progress.stop()
        self._progress = None

    def _update(self, **fields: Any) -> None:
        if self._progress is not None:
            self._progress.update(self._task, **fields)

    def _show_iteration(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._progress is None:
            return
        task = self._progress.tasks[self._task]
        count = f"{trainer.current_epoch:,}" + ("" if task.total is None else f"/{task.total:,}")
        status = self._status(trainer, pl_module)
        self._update(
            description="iteration", count=count, completed=trainer.current_epoch, status=status
        )
        left = task.time_remaining
        time = f"{timedelta(seconds=int(left))} left" if left else ""
        self._print_line("  ".join(part for part in (f"iteration {count}", status, time) if part))

    def _status(self, trainer: Trainer, pl_module: LightningModule) -> str:
        parts = []
        if "train/return" in trainer.callback_metrics:
            parts.append(f"return {trainer.callback_metrics['train/return'].item():.4g}")
        if self._share:
            parts.append(self._share)
        steps = env_steps_of(pl_module) - self._steps_at_start
        if steps:
            seconds = monotonic() - self._started_at
            parts.append(f"{steps / seconds:,.0f} steps/s")
        return "  ".join(parts)

    def _print_line(self, line: str) -> None:
        """Print a plain line, at most one per `seconds_between_lines`, unless there is a bar."""
        if self._progress is None or self._progress.live.is_started:
            return
        now = monotonic()
        if now - self._printed_at >= self._seconds_between_lines:
            self.print(line, soft_wrap=True, highlight=False)
            self._printed_at = now
