"""Measure this project beside loops in JAX: `python -m benchmarks.peers [row ...]`.

Each loop runs in a process of its own, and one after the other runs an iteration: collecting, and 4
passes over the trials in 2 minibatches. Ratios are those of the same round. A row takes about a
minute and is a task and a memory, such as `bandit_n10_k5/gru64`. Needs the extra `bench`; a peer in
an environment of its own is named by its interpreter: `--python memorax=PATH`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

from rich import box, get_console
from rich.table import Table

from benchmarks.peers.loops import CLOCKS, Lap
from benchmarks.peers.turns import Loop, Measured, take_turns
from benchmarks.peers.work import ROWS, Work

OURS, OURS_TWICE, PRODUCT = "own", "own, 2 memories", "product"
PEERS = ("jax", "memorax")
PARTS = ("collecting", "optimising", "the whole")


def seconds_of(lap: Lap, part: str) -> float | None:
    """The seconds of a part of an iteration; None where it cannot be told apart."""
    if part == "the whole" or lap.collect is None:
        return lap.whole if part == "the whole" else None
    return lap.collect if part == "collecting" else lap.whole - lap.collect


def spread_of(numbers: Sequence[float]) -> str:
    """The median, and in brackets the quartiles."""
    if len(numbers) < 2:
        return f"{numbers[0]:.2f}"
    low, middle, high = quantiles(numbers, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def ratios(ours: Measured, theirs: Measured, part: str) -> list[float]:
    """The speed of one loop relative to another's, for each round."""
    pairs = zip(ours.laps, theirs.laps, strict=True)
    seconds = [(seconds_of(one, part), seconds_of(other, part)) for one, other in pairs]
    return [other / one for one, other in seconds if one is not None and other is not None]


def beside(label: str, part: str, found: Mapping[str, Measured]) -> str:
    """This project's speed relative to a loop's, for the table."""
    if label in (OURS, OURS_TWICE):
        return ""
    ours = found[OURS_TWICE if label == "memorax" else OURS]
    return spread_of(ratios(ours, found[label], part))


def loops_of(
    work: Work, peers: Sequence[str], pythons: Mapping[str, str], before: Path | None
) -> dict[str, Loop]:
    """The loops of a row, by label; this project is first.

    Beside a matrix memory, which the peers lack, this project's LSTM with as many parameters is
    measured; beside memorax, this project with a memory each for actor and critic.
    """
    loops = {OURS: Loop("own", work)}
    if before is not None:
        loops["before"] = Loop("own", work, checkout=before.resolve())
    if work.memory == "matrix":
        from benchmarks.peers.own_loop import num_parameters

        twin = work.with_lstm(num_parameters(work))
        loops[f"own, LSTM {twin.hidden_size}"] = Loop("own", twin)
    else:
        if "memorax" in peers:
            loops[OURS_TWICE] = Loop("own", work.with_two_memories())
        for peer in peers:
            own = work.with_two_memories() if peer == "memorax" else work
            loops[peer] = Loop(peer, own, pythons.get(peer, sys.executable))
    return {**loops, PRODUCT: Loop("product", work)}


def table_of(
    name: str, work: Work, loops: Mapping[str, Loop], found: Mapping[str, Measured]
) -> Table:
    """The table of a row."""
    table = Table(
        box=box.SIMPLE_HEAD, title=f"{name}: {work.num_trials} trials of {work.num_steps}"
    )
    table.add_column("loop")
    table.add_column("part")
    for title in ("env steps/s", "own : it", "of products", "peak MB"):
        table.add_column(title, justify="right")
    for label, measured in found.items():
        if label == PRODUCT:
            continue
        if measured.error:
            table.add_row(label, "failed:", measured.error)
            continue
        counts = zip(PARTS, loops[label].work.operations, strict=True)
        for part, operations in counts:
            seconds = [seconds_of(lap, part) for lap in measured.laps]
            known = [one for one in seconds if one is not None]
            if not known:
                continue
            # Billions of operations that the machine's products would have needed that long.
            needed = operations * work.env_steps / 1e9
            products = [lap.whole for lap in found[PRODUCT].laps]
            shares = [needed * one / took for one, took in zip(products, known, strict=True)]
            is_whole = part == "the whole"
            table.add_row(
                label,
                part,
                f"{work.env_steps / median(known):,.0f}",
                beside(label, part, found),
                f"{median(shares):.0%}",
                f"{measured.megabytes:,.0f}" if is_whole else "",
                end_section=is_whole,
            )
    return table


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; or all")
    parser.add_argument("--peers", default=",".join(PEERS), help="loops beside this project")
    parser.add_argument("--threads", type=int, default=1, help="threads of each loop")
    parser.add_argument("--rounds", type=int, default=9, help="iterations that count")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what measures seconds")
    parser.add_argument("--trials", type=int, help="trials of an iteration")
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=PATH", help="a peer's interpreter"
    )
    options = parser.parse_args(arguments)
    unknown = [row for row in options.rows if row not in ROWS]
    if unknown:
        parser.error(f"{unknown[0]} is no row; they are {', '.join(ROWS)}")
    return options


def main(arguments: Sequence[str]) -> None:
    """Print a table for each row."""
    options = parse(arguments)
    pythons = dict(one.split("=", 1) for one in options.python)
    peers = [peer for peer in options.peers.split(",") if peer]
    for name in options.rows or ROWS:
        work = ROWS[name].with_trials(options.trials)
        loops = loops_of(work, peers, pythons, options.before)
        found = take_turns(loops, options.rounds, options.threads, options.clock)
        get_console().print(table_of(name, work, loops, found))


if __name__ == "__main__":
    main(sys.argv[1:])
