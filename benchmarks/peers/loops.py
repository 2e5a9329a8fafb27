"""The loops that are compared, each with one iteration to a lap."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time
from typing import NamedTuple

from benchmarks.peers.work import Work

Clock = Callable[[], float]
# The time of the processor does not pass while other programs run: for a busy machine, one thread.
CLOCKS: dict[str, Clock] = {"wall": perf_counter, "processor": process_time}


class Lap(NamedTuple):
    """The seconds of an iteration.

    Attributes:
        collect: of collecting, with the advantages; None if it cannot be told apart.
        whole: of everything.
    """

    collect: float | None
    whole: float


class Turns(NamedTuple):
    """How a loop takes its turns.

    Attributes:
        wait: waits for the next turn; false if there is none.
        end: is told the lap that ends a turn.
        clock: measures laps.
    """

    wait: Callable[[], bool]
    end: Callable[[Lap], None]
    clock: Clock


def run_own(work: Work, turns: Turns) -> None:
    """This project, as `train.py` runs it, without files, pictures and validations."""
    from benchmarks.peers.own_loop import run

    run(work, turns)


def run_jax(work: Work, turns: Turns) -> None:
    """The compact loop in JAX."""
    import jax

    from benchmarks.peers import jax_loop

    settings = jax_loop.Settings()
    key = jax.random.key(0)
    training = jax_loop.begin(work, settings, key)
    while turns.wait():
        key, of_collecting, of_order = jax.random.split(key, 3)
        start = turns.clock()
        training, batch = jax_loop.collect(work, settings, training, of_collecting)
        jax.block_until_ready(batch)
        collected = turns.clock()
        training = jax_loop.optimise(work, settings, training, batch, of_order)
        jax.block_until_ready(training)
        turns.end(Lap(collected - start, turns.clock() - start))


def run_memorax(work: Work, turns: Turns) -> None:
    """Memorax's PPO, with a memory each for actor and critic."""
    from benchmarks.peers.memorax_loop import run

    run(work, turns)


def run_products(work: Work, turns: Turns) -> None:
    """Matrix products in the shapes of the recurrent product; a lap is that of 10^9 operations."""
    from benchmarks.throughput import RecurrentProduct

    product = RecurrentProduct(work.num_trials // work.num_minibatches, work.hidden_size)
    while turns.wait():
        turns.end(Lap(None, 1e9 / product.rate(clock=turns.clock)))


LOOPS = {"own": run_own, "jax": run_jax, "memorax": run_memorax, "product": run_products}
