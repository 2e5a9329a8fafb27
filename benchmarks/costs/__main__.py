"""Measure how time and memory of an iteration grow: `python -m benchmarks.costs`.

An iteration collects trials of a bandit and passes over them 4 times in 2 minibatches. One of its
numbers at a time is changed: trials, env steps of a trial, width of the memory, arms. The runs of a
curve take turns. Long trials are measured whole, and in windows, of which a minibatch has as many
as it has whole trials. `costs.csv` and `costs.png` are written to `--folder`; with `--rounds 0` the
picture shows the stored file.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from rich import box, get_console
from rich.table import Table

from benchmarks.costs.picture import draw
from benchmarks.peers.loops import CLOCKS
from benchmarks.peers.turns import ROOT, Loop, Measured, take_turns
from benchmarks.peers.work import Work

BASE = Work("bernoulli_bandit", 5, 10, "gru", 64, 2000)
LONG = replace(BASE, num_trials=192)  # minibatches divide them
WINDOW = 100  # env steps
# Name of a curve, to the works along it by the number that is changed.
CURVES: dict[str, dict[int, Work]] = {
    "trials": {num: replace(BASE, num_trials=num) for num in (250, 500, 1000, 2000, 4000, 8000)},
    "steps": {num: replace(LONG, num_episodes=num) for num in (50, 100, 200, 400, 800)},
    "steps in windows": {
        num: replace(LONG, num_episodes=num, window=WINDOW, num_minibatches=2 * num // WINDOW)
        for num in (100, 200, 400, 800)
    },
    "hidden size": {size: replace(BASE, hidden_size=size) for size in (16, 32, 64, 128, 256, 512)},
    "arms": {num: replace(BASE, num_actions=num) for num in (2, 5, 10, 20, 50, 100, 200)},
}
SMALLEST = replace(BASE, num_trials=2)  # whose memory is that of the program itself
COLUMNS = ("curve", "number", "env_steps", "collect_us", "optimise_us", "megabytes")


def row_of(curve: str, number: int, work: Work, measured: Measured, empty: float) -> dict[str, str]:
    """A row of the table.

    Args:
        curve: name of the curve.
        number: what is changed along it.
        work: what an iteration does.
        measured: its laps, and the peak memory of its process.
        empty: peak memory of a process that does next to nothing, in MB.
    """
    if measured.error:
        raise RuntimeError(f"{curve} = {number} failed: {measured.error}")
    collect = median(lap.collect for lap in measured.laps if lap.collect is not None)
    whole = median(lap.whole for lap in measured.laps)
    each = 1e6 / work.env_steps
    numbers = (f"{collect * each:.4g}", f"{(whole - collect) * each:.4g}")
    grown = max(0.0, measured.megabytes - empty)
    cells = (curve, f"{number}", f"{work.env_steps}", *numbers, f"{grown:.0f}")
    return dict(zip(COLUMNS, cells, strict=True))


def peaks_and_laps(
    works: Mapping[str, Work], num_rounds: int, num_threads: int, clock: str
) -> dict[str, Measured]:
    """What was measured of this project's loop at each work; see `turns.take_turns`."""
    loops = {label: Loop("own", work) for label, work in works.items()}
    return take_turns(loops, num_rounds, num_threads, clock)


def read(path: Path) -> list[dict[str, str]]:
    """Read the table; it is empty if there is none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the rows into the table, in place of those of the same curves."""
    replaced = {row["curve"] for row in rows}
    kept = [row for row in read(path) if row["curve"] not in replaced]
    order = list(CURVES)
    both = sorted([*kept, *rows], key=lambda row: order.index(row["curve"]))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(both)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.costs", description=__doc__)
    parser.add_argument("--curves", nargs="+", choices=tuple(CURVES), default=list(CURVES))
    parser.add_argument("--most", type=int, help="leave out larger numbers than this")
    parser.add_argument("--rounds", type=int, default=5, help="iterations that count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what measures seconds")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write."""
    options = parse(arguments)
    path = options.folder / "costs.csv"
    options.folder.mkdir(parents=True, exist_ok=True)
    how = (options.rounds, options.threads, options.clock)
    if options.rounds:
        empty = peaks_and_laps({"empty": SMALLEST}, *how)["empty"].megabytes
        for curve in options.curves:
            works = {n: work for n, work in CURVES[curve].items() if n <= (options.most or n)}
            found = peaks_and_laps({f"{n}": work for n, work in works.items()}, *how)
            write(path, [row_of(curve, n, one, found[f"{n}"], empty) for n, one in works.items()])
    rows = read(path)
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row.values())
    get_console().print(table)
    draw(rows).savefig(options.folder / "costs.png")


if __name__ == "__main__":
    main(sys.argv[1:])
