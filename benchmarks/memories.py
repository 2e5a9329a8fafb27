"""Measure the cost of learning with each memory: `python -m benchmarks.memories [matrix ...]`.

Measures the time of a forward and backward pass over a window, and its peak memory for trials of
several lengths. The memories are those of `configs/memory`, with width 128 and one layer, on
encodings of that width and one core. Peak memory is measured in a separate process.
"""

import resource
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from rich import box, get_console
from rich.table import Table
from torch import Tensor

from benchmarks.throughput import CONFIGS
from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.allocator import keep_freed_memory

MEMORIES = sorted(path.stem for path in (CONFIGS / "memory").glob("*.yaml"))
WIDTH = 128
NUM_TRIALS, NUM_STEPS = 256, 100  # of the window that is timed
REPETITIONS = 7
LENGTHS, NUM_LONG_TRIALS = (250, 500, 1000, 2000), 32


def make_memory(name: str, num_steps: int) -> Memory:
    """A memory of width 128 and one layer, with `max_steps=num_steps` if it has this setting."""
    cfg = OmegaConf.load(CONFIGS / "memory" / f"{name}.yaml")
    sizes = {"hidden_size": WIDTH, "num_layers": 1, "max_steps": num_steps}
    settings = {key: value for key, value in cfg.items() if key != "_target_"}
    settings |= {key: size for key, size in sizes.items() if key in settings}
    memory: Memory = get_class(cfg["_target_"])(WIDTH, **settings)
    return memory


def learn(memory: Memory, encoding: Tensor) -> None:
    """One forward and backward pass over windows `[B, T, 128]`."""
    memory.zero_grad()
    features, _ = memory.unroll(encoding, memory.initial_state(len(encoding)))
    features.square().mean().backward()


def seconds_to_learn(
    names: Sequence[str], num_trials: int, num_steps: int, repetitions: int = REPETITIONS
) -> dict[str, float]:
    """The median seconds of a pass, by memory; they take turns, as a machine's speed varies."""
    torch.manual_seed(0)
    encoding = torch.randn(num_trials, num_steps, WIDTH)
    memories = {name: make_memory(name, num_steps) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(1 + repetitions):
        for name, memory in memories.items():
            start = perf_counter()
            learn(memory, encoding)
            times[name].append(perf_counter() - start)
    return {name: median(seen[1:]) for name, seen in times.items()}


def megabytes_to_learn(name: str, num_trials: int, num_steps: int) -> float:
    """The increase of this process's peak memory by a pass, in MB."""
    torch.set_num_threads(1)
    memory = make_memory(name, num_steps)
    learn(memory, torch.randn(2, 2, WIDTH))
    encoding = torch.randn(num_trials, num_steps, WIDTH)
    before = most_kilobytes()
    learn(memory, encoding)
    return (most_kilobytes() - before) / 1024


def most_kilobytes() -> int:
    """The peak memory of this process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux, ru_maxrss starts with that of the parent process.
    (line,) = (one for one in status.read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1])


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or MEMORIES
    torch.set_num_threads(1)
    keep_freed_memory()
    seconds = seconds_to_learn(names, NUM_TRIALS, NUM_STEPS)
    title = f"ms for {NUM_TRIALS} trials of {NUM_STEPS} steps, MB for {NUM_LONG_TRIALS} of more"
    table = Table(box=box.SIMPLE_HEAD, title=title)
    for column in ("memory", "ms", *(f"MB, {length}" for length in LENGTHS)):
        table.add_column(column, justify="left" if column == "memory" else "right")
    for name in names:
        peaks = []
        for length in LENGTHS:
            with get_context("spawn").Pool(1) as pool:
                megabytes = pool.apply(megabytes_to_learn, (name, NUM_LONG_TRIALS, length))
            peaks.append(f"{megabytes:,.0f}")
        table.add_row(name, f"{1000 * seconds[name]:,.0f}", *peaks)
    get_console().print(table)


if __name__ == "__main__":
    main()
