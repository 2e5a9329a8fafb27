"""A run of many iterations does not grow: memory, open files and threads stay as they were."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.builders import ROOT
from tests.command_line.program import SMALL

NUM_ITERATIONS = int(os.environ.get("FAULTS", "2000"))
PAGE = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 2**20
# MB in the second half. Each of the first twenty validations leaves some memory fragmented, later
# ones do not; a leak of 10 kB in each iteration would be more.
LARGEST_GROWTH = 10.0


class Measures(Callback):
    """Writes down the size of the process after each iteration: MB, open files, threads."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = sum(1 for _ in Path("/proc/self/fd").iterdir())
        with self.path.open("a") as table:
            table.write(f"{pages * PAGE / MEGABYTE} {files} {threading.active_count()}\n")


@pytest.mark.slow
def test_many_iterations_do_not_grow(tmp_path: Path) -> None:
    table = tmp_path / "sizes.txt"
    command = (
        *(sys.executable, str(ROOT / "train.py"), *SMALL),
        f"collection.total_env_steps={16 * NUM_ITERATIONS}",
        "trainer.max_epochs=null",
        f"trainer.check_val_every_n_epoch={NUM_ITERATIONS // 100}",
        "learner.num_minibatches=1",
        f"+callbacks.measures={{_target_: {__name__}.Measures, path: {table}}}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=tmp_path, env=env, timeout=1200)
    found = [tuple(map(float, line.split())) for line in table.read_text().splitlines()]
    assert len(found) == NUM_ITERATIONS
    half, end = found[NUM_ITERATIONS // 2], found[-1]
    names = ("MB of memory", "open files", "threads")
    for name, before, after in zip(names, half, end, strict=True):
        print(f"{name}: {before:.1f} half way, {after:.1f} at the end")  # noqa: T201
    assert end[0] - half[0] < LARGEST_GROWTH
    assert end[1] <= half[1]
    assert end[2] <= half[2]
