"""Runs of `python train.py` on one device or two, and sums over two processes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from benchmarks.peers.turns import environment_for
from benchmarks.scaling.model import Lap

ROOT = Path(__file__).parents[2]
WARM_UP = 2  # iterations
COMMON = ("trainer.accelerator=cpu", "logger=csv", "evaluation.test_tasks=2")
REPETITIONS = 50  # of a sum


def run(num_devices: int, overrides: Sequence[str]) -> list[dict[str, str]]:
    """The rows of the metrics of a run, whose processes have one thread each."""
    several = () if num_devices == 1 else (f"trainer.devices={num_devices}", "trainer.strategy=ddp")
    with tempfile.TemporaryDirectory() as folder:
        given = [*COMMON, *several, *overrides, f"hydra.run.dir={folder}/run"]
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *given],
            check=False,
            cwd=folder,
            env=environment_for(1),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"a run failed: {done.stderr}")
        with (Path(folder) / "run" / "csv" / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))


def lap_of(num_devices: int, overrides: Sequence[str]) -> Lap:
    """The median seconds of an iteration of a run, after the first ones."""
    rows = [row for row in run(num_devices, overrides) if row["collect/steps_per_second"]]
    steps = [0.0, *(float(row["train/env_steps"]) for row in rows)]
    numbers = [after - before for before, after in pairwise(steps)]

    def seconds(part: str) -> float:
        rates = (float(row[f"{part}/steps_per_second"]) for row in rows)
        return median([n / rate for n, rate in zip(numbers, rates, strict=True)][WARM_UP:])

    return Lap(seconds("collect"), seconds("optimise"))


def lap_beside(num_devices: int, overrides: Sequence[str]) -> Lap:
    """`lap_of` while another such run computes at the same time."""
    with ThreadPoolExecutor(2) as both:
        first, _ = both.map(lambda _: lap_of(num_devices, overrides), range(2))
    return first


def returns_of(num_devices: int, overrides: Sequence[str]) -> list[tuple[int, float]]:
    """The env steps and the greedy return of each validation of a run."""
    rows = [row for row in run(num_devices, overrides) if row["validation/return_greedy"]]
    return [(int(float(row["step"])), float(row["validation/return_greedy"])) for row in rows]


def seconds_to_sum(num_numbers: int) -> float:
    """The median seconds of a sum of `[M]` float32 over two processes, by gloo."""
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_sum, (folder, num_numbers), nprocs=2, start_method="spawn")
        return float((Path(folder) / "seconds").read_text())


def _sum(rank: int, folder: str, num_numbers: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    numbers, times = torch.zeros(num_numbers), []
    for _ in range(REPETITIONS):
        distributed.barrier()
        begun = perf_counter()
        distributed.all_reduce(numbers)
        times.append(perf_counter() - begun)
    if rank == 0:
        (Path(folder) / "seconds").write_text(f"{median(times)}")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads may deadlock when their objects are destroyed
