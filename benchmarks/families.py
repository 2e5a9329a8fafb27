"""Measure collecting in each family, in env steps per second: `python -m benchmarks.families`.

Collecting is everything between two optimisations: tasks, episodes, the agent with a GRU of 64, and
the advantages. Arguments on the command line override the config.
"""

import sys
import tempfile

from hydra import compose, initialize_config_dir
from rich import box, get_console
from rich.table import Table

from benchmarks.throughput import CONFIGS, WARM_UP, IterationRates, fit
from rl2_lightning.callbacks.throughput import Throughput
from rl2_lightning.config import register_schemas
from rl2_lightning.session import quieten

FAMILIES = sorted(path.stem for path in (CONFIGS / "env").glob("*.yaml"))
MEASURED = 5  # iterations
NUM_TRIALS, NUM_STEPS = 2000, 100
MAZE_TRIALS = 100  # fewer, because images need much memory
WORKLOAD = [
    "memory.hidden_size=64",
    "trial.episodes_per_trial=null",
    f"trial.steps_per_trial={NUM_STEPS}",
    "collection.total_env_steps=1000000000",
    "learner.num_epochs=1",
    "learner.num_minibatches=4",
    f"trainer.max_epochs={WARM_UP + MEASURED}",
    "trainer.check_val_every_n_epoch=1000",
]


def collecting_rate(family: str, overrides: list[str]) -> float:
    """The median rate after the warm-up, in env steps per second."""
    num_trials = MAZE_TRIALS if family == "visual_maze" else NUM_TRIALS
    settings = [f"env={family}", *WORKLOAD, f"collection.num_trials={num_trials}", *overrides]
    with tempfile.TemporaryDirectory() as folder:
        cfg = compose("train", [f"output_dir={folder}", *settings])
        # Leave out the callbacks of a normal run, which write files and draw.
        cfg.callbacks, cfg.logger = {}, {}
        measured = IterationRates()
        fit(cfg, measured, Throughput())
    return measured.rate("collect")


def main() -> None:
    """Print the table."""
    quieten()
    register_schemas()
    table = Table(box=box.SIMPLE_HEAD, title=f"Collecting trials of {NUM_STEPS} steps")
    table.add_column("family")
    table.add_column("env steps/s", justify="right")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for family in FAMILIES:
            table.add_row(family, f"{collecting_rate(family, sys.argv[1:]):,.0f}")
    get_console().print(table)


if __name__ == "__main__":
    main()
