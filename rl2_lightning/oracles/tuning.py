"""The constants of the tuned players: those shipped for published bandits, others on the fly.

The table of shipped constants is made by `python -m rl2_lightning.oracles.tuning`.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.oracles.bandit_policies import UCB1, EpsilonGreedy, OptimisticThompsonSampling
from rl2_lightning.oracles.cache import cached_array
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow

SHIPPED_TABLE = "tuned_constants.csv"
SHIPPED_PULLS = (10, 100, 500)
SHIPPED_ARMS = (5, 10, 50)
SHIPPED_MAX_TASKS = 20_000  # tasks for a shipped constant
MAX_TASKS = 2000  # tasks for any other constant
MAX_PULLS = 500_000  # pulls played with each candidate: the tasks are fewer where trials are long
MIN_TASKS = 100
TASKS_AT_ONCE = 1000
SEED = 161_102_779  # no run should report figures on the tasks that this seed draws


@dataclass(frozen=True)
class Family:
    """A player with one constant to tune.

    Attributes:
        build: makes the player with a constant.
        candidates: the constants to choose from (the grids of arXiv 1611.02779, section 3.1).
    """

    build: Callable[[float], Oracle]
    candidates: Sequence[float]


FAMILIES = {
    "epsilon_greedy": Family(EpsilonGreedy, [tenth / 10 for tenth in range(11)]),
    "optimistic_thompson": Family(
        lambda constant: OptimisticThompsonSampling(int(constant)), range(1, 21)
    ),
    "ucb1": Family(UCB1, [tenth / 10 for tenth in range(11)]),
}


def tuned_constant(family: str, num_arms: int, num_pulls: int) -> float:
    """Gives the constant of a family that earns most on tasks kept for tuning.

    Shipped for the published bandits. For others it is tuned once, on up to 2000 tasks, then
    read from the user's cache.

    Args:
        family: a key of `FAMILIES`.
        num_arms: K, the number of arms.
        num_pulls: length of a trial, in pulls.

    Returns:
        One of the family's candidates.
    """
    shipped = _shipped_constants().get((num_pulls, num_arms))
    if shipped is not None:
        return shipped[family]
    num_tasks = _num_tasks(num_pulls, MAX_TASKS)
    mean_returns = cached_array(
        f"tuning-{family}-{num_pulls}-pulls-{num_arms}-arms-{num_tasks}-tasks",
        (len(FAMILIES[family].candidates),),
        lambda: mean_returns_of_candidates(family, num_arms, num_pulls, num_tasks),
    )
    return FAMILIES[family].candidates[int(mean_returns.argmax())]


def mean_returns_of_candidates(
    family: str, num_arms: int, num_pulls: int, num_tasks: int
) -> npt.NDArray[np.float64]:
    """Plays every candidate of a family on the same tasks, from the same random seed.

    Args:
        family: a key of `FAMILIES`.
        num_arms: K, the number of arms.
        num_pulls: length of a trial, in pulls.
        num_tasks: bandits played with each candidate.

    Returns:
        Mean return of a trial with each candidate, `[num_candidates]`, float64.
    """
    # On the CPU whatever the device of the play, so that every machine finds the same constants.
    generator = torch.Generator("cpu").manual_seed(SEED)
    batches = torch.rand(num_tasks, num_arms, generator=generator, device="cpu").split(
        TASKS_AT_ONCE
    )
    candidates = FAMILIES[family].candidates
    total = np.zeros(len(candidates))
    work = list(product(range(len(batches)), range(len(candidates))))
    for batch, candidate in track_slow(
        work, f"tuning {family} for {num_pulls} pulls of {num_arms} arms"
    ):
        tasks = TensorDict({keys.ARM_PROBABILITIES: batches[batch]}, [len(batches[batch])])
        player = FAMILIES[family].build(candidates[candidate])
        rewards = player.play(tasks, num_pulls, generator.manual_seed(SEED + 1 + batch))
        total[candidate] += rewards.sum().item()
    return total / num_tasks


@cache
def _shipped_constants() -> dict[tuple[int, int], dict[str, float]]:
    """Reads the shipped constants of each family by (pulls, arms)."""
    text = resources.files(__package__).joinpath(SHIPPED_TABLE).read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        (int(row["num_pulls"]), int(row["num_arms"])): {
            family: float(row[family]) for family in FAMILIES
        }
        for row in rows
    }


def _num_tasks(num_pulls: int, most: int) -> int:
    return max(MIN_TASKS, min(most, MAX_PULLS // num_pulls))


def main() -> None:
    """Tunes the shipped constants anew and writes their table into the package."""
    num_tasks = {num_pulls: _num_tasks(num_pulls, SHIPPED_MAX_TASKS) for num_pulls in SHIPPED_PULLS}
    sizes = ", ".join(f"{tasks} tasks of {pulls} pulls" for pulls, tasks in num_tasks.items())
    table = StringIO(newline="")
    table.write("# Written by: python -m rl2_lightning.oracles.tuning\n")
    table.write(f"# Candidates compared on {sizes} (seed {SEED})\n")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["num_pulls", "num_arms", *FAMILIES])
    for num_pulls, num_arms in product(SHIPPED_PULLS, SHIPPED_ARMS):
        constants = []
        for name, family in FAMILIES.items():
            means = mean_returns_of_candidates(name, num_arms, num_pulls, num_tasks[num_pulls])
            constants.append(family.candidates[int(means.argmax())])
        writer.writerow([num_pulls, num_arms, *constants])
    Path(__file__).with_name(SHIPPED_TABLE).write_text(table.getvalue())


if __name__ == "__main__":
    main()
