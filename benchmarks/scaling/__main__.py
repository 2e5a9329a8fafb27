"""Measure two devices beside one: `python -m benchmarks.scaling [overrides]`.

The devices are processes with a thread each, so the machine needs two idle cores. The runs take
turns: an iteration with all trials, with half of them, two processes that share the trials, two
with all of them each, and two separate runs at the same time. The terms of the model in
docs/scaling.md follow. Then the learning curves of one and of two devices are measured on bandits.
`scaling.csv`, `scaling_learning.csv` and `scaling.png` are written to `--folder`; with `--rounds 0`
or `--seeds 0` the picture shows the stored file.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from hydra import compose, initialize_config_dir
from rich import box, get_console
from rich.table import Table

from benchmarks.scaling.model import Lap, Terms
from benchmarks.scaling.picture import draw
from benchmarks.scaling.runs import (
    ROOT,
    WARM_UP,
    lap_beside,
    lap_of,
    returns_of,
    seconds_to_sum,
)
from benchmarks.throughput import CONFIGS
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.config import register_schemas

DEVICES = (1, 2, 4, 8, 16)
BATCHES = ("fixed", "growing")
NUM_TRIALS, MEASURED = 2000, 6  # MEASURED: iterations
WORKLOAD = (
    "memory.hidden_size=256",
    "learner.num_epochs=4",
    "learner.num_minibatches=2",
    "collection.total_env_steps=1000000000",
    f"trainer.max_epochs={WARM_UP + MEASURED}",
    "trainer.check_val_every_n_epoch=1000",
)
LEARNING = (
    "experiment=mab_n10_k5",
    "collection.total_env_steps=800000",
    "trainer.check_val_every_n_epoch=3",
)
# Devices, and trials of an iteration as a multiple of those that one device has.
CASES = {"one": (1, 1.0), "half": (1, 0.5), "fixed": (2, 1.0), "growing": (2, 2.0)}


def laps(num_rounds: int, num_trials: int, overrides: Sequence[str]) -> list[dict[str, Lap]]:
    """What each case took, for each round; the order is reversed in every other round."""
    found = []
    for number in range(num_rounds):
        cases = list(CASES)[:: -1 if number % 2 else 1]
        settings = {
            name: (devices, [*overrides, f"collection.num_trials={round(share * num_trials)}"])
            for name, (devices, share) in CASES.items()
        }
        found.append({name: lap_of(*settings[name]) for name in cases})
        found[-1]["beside"] = lap_beside(*settings["half"])
    return found


def median_lap(rounds: Sequence[Mapping[str, Lap]], case: str) -> Lap:
    """The median seconds of a case."""
    seen = [one[case] for one in rounds]
    return Lap(median(lap.collect for lap in seen), median(lap.optimise for lap in seen))


def measured(rounds: Sequence[Mapping[str, Lap]], batch: str) -> list[float]:
    """Env steps per second of two devices relative to one, for each round."""
    work = CASES[batch][1]
    return [work * one["one"].whole / one[batch].whole for one in rounds]


def sizes(overrides: Sequence[str]) -> tuple[int, int]:
    """The number of updates of an iteration, and of parameters."""
    register_schemas()
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(str(CONFIGS), version_base="1.3"),
    ):
        cfg = compose("train", [f"output_dir={folder}", *overrides])
        learner = build_learner(cfg, build_data(cfg))
    updates = cfg.learner.num_epochs * cfg.learner.num_minibatches
    return updates, sum(one.numel() for one in learner.parameters() if one.requires_grad)


def rows_of(terms: Terms, rounds: Sequence[Mapping[str, Lap]]) -> list[dict[str, str]]:
    """The rows of `scaling.csv`."""
    names = ("quantity", "batch", "devices", "value", "lowest", "highest")
    parts = {
        "P": terms.alone,
        "C": terms.collect,
        "L": terms.learn,
        "U S(2)": terms.updates * terms.sum_of_gradients(2),
    }
    rows = [(f"{name} / T(1)", "", "", f"{part:.4f}", "", "") for name, part in parts.items()]
    slower = [one["beside"].whole / one["half"].whole for one in rounds]
    rows.append(("time of a run beside another", "", "", *spread(slower)))
    rows += [
        ("speed-up, measured", batch, "2", *spread(measured(rounds, batch))) for batch in BATCHES
    ]
    for batch in BATCHES:
        for num in DEVICES:
            modelled = terms.speed_up(num, growing=batch == "growing")
            rows.append(("speed-up, modelled", batch, f"{num}", f"{modelled:.3f}", "", ""))
    return [dict(zip(names, row, strict=True)) for row in rows]


def spread(found: Sequence[float]) -> tuple[str, str, str]:
    """The median, the lowest and the highest."""
    return f"{median(found):.3f}", f"{min(found):.3f}", f"{max(found):.3f}"


def learning(seeds: Sequence[int], overrides: Sequence[str]) -> list[dict[str, str]]:
    """The rows of `scaling_learning.csv`: greedy returns of validations on one and two devices."""
    return [
        {
            "devices": f"{num}",
            "seed": f"{seed}",
            "env_steps": f"{steps}",
            "return_greedy": f"{found:.4f}",
        }
        for seed in seeds
        for num in (1, 2)
        for steps, found in returns_of(num, [*overrides, f"seed={seed}"])
    ]


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show(rows: Sequence[Mapping[str, str]]) -> None:
    """Print a table."""
    table = Table(*rows[0], box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row.values())
    get_console().print(table)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="settings of the runs that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case")
    parser.add_argument("--trials", type=int, default=NUM_TRIALS, help="of one device's iteration")
    parser.add_argument("--seeds", type=int, default=3, help="trainings for a learning curve")
    parser.add_argument("--learning", nargs="*", default=[], help="settings of these trainings")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    return parser.parse_args(arguments)


def time_rounds(num_rounds: int, num_trials: int, settings: Sequence[str]) -> list[dict[str, str]]:
    """The rows of `scaling.csv`, measured."""
    updates, num_parameters = sizes(settings)
    rounds = laps(num_rounds, num_trials, settings)
    empty, gradients = seconds_to_sum(1), seconds_to_sum(num_parameters)
    one, half = (median_lap(rounds, case) for case in ("one", "half"))
    return rows_of(Terms.of(one, half, updates, empty, gradients), rounds)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write."""
    options = parse(arguments)
    scaling, curves = (options.folder / name for name in ("scaling.csv", "scaling_learning.csv"))
    if options.rounds:
        settings = [*WORKLOAD, *options.overrides]
        write(scaling, time_rounds(options.rounds, options.trials, settings))
    show(read(scaling))
    if options.seeds:
        seeds = range(1, 1 + options.seeds)
        write(curves, learning(seeds, [*LEARNING, *options.learning]))
    show(read(curves))
    draw(read(scaling), read(curves)).savefig(options.folder / "scaling.png")


if __name__ == "__main__":
    main(sys.argv[1:])
