"""A run of many iterations does not grow: memory, open files and threads stay as they were."""

import os
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.command_line.program import SMALL, call_program

NUM_ITERATIONS = int(os.environ.get("FAULTS", "2000"))
PAGE = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 2**20
LARGEST_GROWTH = 8.0  # MB, of which a leak of 5 kB in each iteration would be more


class Measures(Callback):
    """Measures the process after each iteration."""

    measured: ClassVar[list[tuple[float, int, int]]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = sum(1 for _ in Path("/proc/self/fd").iterdir())
        self.measured.append((pages * PAGE / MEGABYTE, files, threading.active_count()))


@pytest.mark.slow
def test_many_iterations_do_not_grow(tmp_path: Path) -> None:
    Measures.measured.clear()
    run: Any = tmp_path / "run"
    call_program(
        tmp_path,
        *SMALL,
        f"collection.total_env_steps={16 * NUM_ITERATIONS}",
        "trainer.max_epochs=null",
        f"trainer.check_val_every_n_epoch={NUM_ITERATIONS // 10}",
        "learner.num_minibatches=1",
        f"+callbacks.measures={{_target_: {__name__}.Measures}}",
        f"hydra.run.dir={run}",
    )
    found = Measures.measured
    assert len(found) == NUM_ITERATIONS
    # After a quarter, caches and buffers of the writers are full.
    quarter, end = found[NUM_ITERATIONS // 4], found[-1]
    names = ("MB of memory", "open files", "threads")
    for name, before, after in zip(names, quarter, end, strict=True):
        print(f"{name}: {before:.1f} after a quarter, {after:.1f} at the end")  # noqa: T201
    assert end[0] - quarter[0] < LARGEST_GROWTH
    assert end[1:] <= quarter[1:]
