"""How long learning takes: `python -m benchmarks.peers.optimum`.

Trains this project's default run, and the loop in JAX on the same budget with the same settings,
but with one memory for policy and critic where the default run has two, and prints the env steps
and the seconds after which greedy play first gets 95 % and 99 % of the Bayes-optimal return, with
5 arms and 10 pulls. Seconds are those of training alone, without evaluations and, in JAX, without
the compilation of the first iteration, which is a column of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rich import box, get_console
from rich.table import Table

from benchmarks.peers.loops import CLOCKS, Clock
from benchmarks.peers.turns import environment_for
from benchmarks.peers.work import Work

SHARES = (0.95, 0.99)
# As in the default run.
BUDGET = 1_200_000  # env steps
WORK = Work("bernoulli_bandit", 5, 10, "gru", 64, 1024, num_minibatches=4)
SETTINGS = {"learning_rate": 5e-3, "entropy_coefficient": 0.02, "value_coefficient": 0.25}


class Point(NamedTuple):
    """An evaluation within a training.

    Attributes:
        env_steps: env steps of the training so far.
        seconds: its seconds so far.
        reached: mean return of a trial in greedy play.
        set_up: seconds of compilation.
    """

    env_steps: int
    seconds: float
    reached: float
    set_up: float = 0.0


def best_return() -> float:
    """The return of a trial of the Bayes-optimal player."""
    from rl2_lightning.families.bandits.bayes_optimal import BayesOptimal

    player = BayesOptimal(WORK.num_actions, WORK.num_steps)
    player.prepare()
    return player.value


def own_points(
    seed: int, every: int, num_tasks: int, clock: Clock, overrides: Sequence[str] = ()
) -> list[Point]:
    """Evaluations of this project's default run.

    Args:
        seed: seed of the run.
        every: iterations between two evaluations.
        num_tasks: tasks of an evaluation.
        clock: measures seconds.
        overrides: further settings of the run.
    """
    from benchmarks.peers.own_training import Evaluations, train

    with tempfile.TemporaryDirectory() as folder:
        settings = [f"seed={seed}", f"output_dir={folder}", f"evaluation.test_tasks={num_tasks}"]
        evaluations = Evaluations(every, clock)
        train([*settings, *overrides], evaluations)
    return [Point(*numbers) for numbers in evaluations.found]


def jax_points(
    seed: int, every: int, num_tasks: int, clock: Clock, work: Work = WORK, budget: int = BUDGET
) -> Iterator[Point]:
    """Evaluations of the loop in JAX; see `own_points`."""
    import jax

    from benchmarks.peers import jax_loop

    settings = jax_loop.Settings(budget // work.env_steps, **SETTINGS)
    key, of_weights, of_tasks = jax.random.split(jax.random.key(seed), 3)
    training = jax_loop.begin(work, settings, of_weights)
    seconds = set_up = 0.0
    for iteration in range(1, settings.num_iterations + 1):
        key, of_collecting, of_order = jax.random.split(key, 3)
        start = clock()
        training, batch = jax_loop.collect(work, settings, training, of_collecting)
        training = jax.block_until_ready(
            jax_loop.optimise(work, settings, training, batch, of_order)
        )
        took = clock() - start
        if iteration == 1:
            set_up = took
        else:
            seconds += took
        if iteration % every == 0 or iteration == settings.num_iterations:
            found = jax_loop.greedy_return(work, training.weights, of_tasks, num_tasks)
            yield Point(iteration * work.env_steps, seconds, float(found), set_up)


def reached(points: Sequence[Point], best: float, share: float) -> Point | None:
    """The first evaluation with at least a share of the best return; None if there is none."""
    return next((point for point in points if point.reached >= share * best), None)


def row_of(label: str, seed: int, points: Sequence[Point], best: float) -> list[str]:
    """The row of a training."""
    cells = [label, f"{seed}", f"{points[-1].reached / best:.1%}", f"{points[-1].set_up:.1f}"]
    for share in SHARES:
        point = reached(points, best, share)
        cells += ["–", "–"] if point is None else [f"{point.env_steps:,}", f"{point.seconds:.1f}"]
    return [*cells, f"{points[-1].seconds:.1f}"]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers.optimum", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--loops", nargs="+", choices=("own", "jax"), default=["own", "jax"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what measures seconds")
    parser.add_argument("--every", type=int, default=5, help="iterations between evaluations")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of an evaluation")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    options = parse(arguments)
    os.environ.update(environment_for(options.threads))
    import torch

    torch.set_num_threads(options.threads)
    best = best_return()
    table = Table(box=box.SIMPLE_HEAD, title="Default run: greedy play of 10 pulls of 5 arms")
    for title in ("loop", "seed", "at the end", "compiling s"):
        table.add_column(title)
    for share in SHARES:
        table.add_column(f"env steps to {share:.0%}", justify="right")
        table.add_column("s", justify="right")
    table.add_column("whole s", justify="right")
    points_of: dict[str, Callable[..., Any]] = {"own": own_points, "jax": jax_points}
    for seed in options.seeds:
        for label in options.loops:
            clock = CLOCKS[options.clock]
            points = list(points_of[label](seed, options.every, options.tasks, clock))
            table.add_row(*row_of(label, seed, points, best))
    get_console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
