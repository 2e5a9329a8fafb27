"""The constants of the tuned players: those shipped for published trials, others on the fly.

The tables of shipped constants are made by `python -m rl2_lightning.oracles.tuning`.
"""

import csv
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache, cached_property
from importlib import resources
from io import StringIO
from itertools import product
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.oracles.cache import cached_array
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow

MAX_TASKS = 2000  # tasks for a constant that is not shipped
MIN_TASKS = 100
TASKS_AT_ONCE = 1000
SEED = 161_102_779  # no run should report figures on the tasks that this seed draws


@dataclass(frozen=True)
class Family:
    """A player with one constant to tune.

    Attributes:
        build: makes the player with a constant.
        candidates: the constants to choose from (the grids of arXiv 1611.02779, section 3).
    """

    build: Callable[[float], Oracle]
    candidates: Sequence[float]


@dataclass(frozen=True)
class TunedTrials(ABC):
    """The trials that players are tuned for; the fields of a subclass are their sizes.

    Attributes:
        table: file of the shipped constants, in this package.
        unit: what an episode is called there.
        max_episodes: episodes played with each candidate, over all tasks, where no constant is
            shipped: the tasks are fewer where trials are long.
    """

    table: ClassVar[str]
    unit: ClassVar[str]
    max_episodes: ClassVar[int]

    @property
    @abstractmethod
    def length(self) -> int:
        """Episodes of a trial."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The sizes, as part of a file's name."""

    @property
    @abstractmethod
    def families(self) -> Mapping[str, Family]:
        """The tuned players by name."""

    @abstractmethod
    def draw_tasks(self, num_tasks: int, generator: torch.Generator) -> TensorDictBase:
        """Draws tasks of these sizes, `[num_tasks]`, on the device of the generator."""

    @classmethod
    @abstractmethod
    def shipped_plays(cls) -> Mapping[Self, int]:
        """The trials played for the shipped table, each with its number of tasks."""

    def beginnings(self) -> Sequence[Self]:
        """The trials whose constants a play of this one decides: itself, or shorter ones too."""
        return [self]

    def num_tasks(self, most: int = MAX_TASKS) -> int:
        """Tasks to compare candidates on, at most `most`."""
        return max(MIN_TASKS, min(most, self.max_episodes // self.length))


class TunedPlayer(Oracle):
    """A player whose constant is looked up, or tuned, when it first plays.

    Args:
        family: a key of the trials' families.
        trials: what it is tuned for.
    """

    def __init__(self, family: str, trials: TunedTrials) -> None:
        self.family = family
        self.trials = trials

    @cached_property
    def constant(self) -> float:
        """The constant that the player uses."""
        return tuned_constant(self.family, self.trials)

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every task; see `Oracle.play`."""
        player = self.trials.families[self.family].build(self.constant)
        return player.play(tasks, num_episodes, generator)


def tuned_constant(family: str, trials: TunedTrials) -> float:
    """Gives the constant of a family that earns most on tasks kept for tuning.

    Shipped for the published trials. For others it is tuned once, on up to 2000 tasks, then
    read from the user's cache.

    Args:
        family: a key of the trials' families.
        trials: what the player is tuned for.

    Returns:
        One of the family's candidates.
    """
    shipped = _shipped_constants(type(trials)).get(astuple(trials))
    if shipped is not None:
        return shipped[family]
    candidates = trials.families[family].candidates
    num_tasks = trials.num_tasks()
    mean_returns = cached_array(
        f"tuning-{family}-{trials.name}-{num_tasks}-tasks",
        (len(candidates),),
        lambda: mean_returns_of_candidates(family, trials, num_tasks)[:, -1],
    )
    return candidates[int(mean_returns.argmax())]


def mean_returns_of_candidates(
    family: str, trials: TunedTrials, num_tasks: int
) -> npt.NDArray[np.float64]:
    """Plays every candidate of a family on the same tasks, from the same random seed.

    Args:
        family: a key of the trials' families.
        trials: what is played.
        num_tasks: tasks played with each candidate.

    Returns:
        Mean return of the first 1, 2, … episodes of a trial with each candidate,
        `[num_candidates, num_episodes]`, float64.
    """
    # On the CPU whatever the device of the play, so that every machine finds the same constants.
    generator = torch.Generator("cpu").manual_seed(SEED)
    batches = trials.draw_tasks(num_tasks, generator).split(TASKS_AT_ONCE)
    player = trials.families[family]
    total = np.zeros((len(player.candidates), trials.length))
    work = list(product(range(len(batches)), range(len(player.candidates))))
    for batch, candidate in track_slow(work, f"tuning {family} for {trials.name}"):
        oracle = player.build(player.candidates[candidate])
        seeded = generator.manual_seed(SEED + 1 + batch)
        returns = oracle.play(batches[batch], trials.length, seeded)
        total[candidate] += returns.double().sum(0).cumsum(0).numpy()
    return total / num_tasks


@cache
def _shipped_constants(kind: type[TunedTrials]) -> dict[tuple[int, ...], dict[str, float]]:
    """Reads the shipped constants of each family by the sizes of the trials."""
    text = resources.files(__package__).joinpath(kind.table).read_text()
    header, *rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    num_sizes = len(_size_names(kind))
    return {
        tuple(map(int, row[:num_sizes])): dict(
            zip(header[num_sizes:], map(float, row[num_sizes:]), strict=True)
        )
        for row in rows
    }


def _size_names(kind: type[TunedTrials]) -> list[str]:
    return [field.name for field in fields(kind)]


def write_table(kind: type[TunedTrials]) -> None:
    """Tunes the shipped constants of one kind of trials anew, and writes their table."""
    plays = kind.shipped_plays()
    sizes = [f"{tasks} tasks of {play.length} {kind.unit}" for play, tasks in plays.items()]
    constants: dict[TunedTrials, list[float]] = {}
    for play, num_tasks in plays.items():
        for name, family in play.families.items():
            means = mean_returns_of_candidates(name, play, num_tasks)
            for trials in play.beginnings():
                best = int(means[:, trials.length - 1].argmax())
                constants.setdefault(trials, []).append(family.candidates[best])
    table = StringIO(newline="")
    table.write("# Written by: python -m rl2_lightning.oracles.tuning\n")
    table.write(f"# Candidates compared on {', '.join(dict.fromkeys(sizes))} (seed {SEED})\n")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*_size_names(kind), *play.families])
    for trials, row in constants.items():
        writer.writerow([*astuple(trials), *row])
    Path(__file__).with_name(kind.table).write_text(table.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table that is named on the command line, or all of them."""
    # Late, because the players stand on this module.
    from rl2_lightning.oracles.bandits import BanditTrials
    from rl2_lightning.oracles.tabular import TabularTrials

    kinds: dict[str, type[TunedTrials]] = {"bandits": BanditTrials, "tabular": TabularTrials}
    parser = ArgumentParser("python -m rl2_lightning.oracles.tuning", description=main.__doc__)
    parser.add_argument("table", nargs="?", choices=[*kinds, "all"], default="all")
    chosen = parser.parse_args(arguments).table
    for name in kinds if chosen == "all" else [chosen]:
        write_table(kinds[name])


if __name__ == "__main__":
    main()
