"""The constants of tuned players: shipped for published trials, tuned on demand for others.

A family with players to tune describes its trials by a frozen dataclass with the sizes of a trial
as fields:

    @dataclass(frozen=True)
    class BanditTrials(TunedTrials):
        num_arms: int
        table = Path(__file__).with_name("tuned_constants.csv")
        max_episodes = 500_000

        @property
        def tuned(self): return {"ucb1": Tuned(partial(UCB1, self.num_arms), [0.0, 0.1, 0.2])}

        def make_env(self, num_tasks): return BernoulliBandit(num_tasks, num_arms=self.num_arms)

    players = {"ucb1": TunedPlayer("ucb1", BanditTrials(num_episodes, num_arms))}

For published sizes, the table ships the index of the best candidate of each player: one column for
each size, named after its field, then one for each player. `write_table` recomputes it, by `python
-m rl2_lightning.families.bandits` or `python -m rl2_lightning.families.tabular_mdp`.
"""

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.cache import cached_array
from rl2_lightning.families.play import play_reference
from rl2_lightning.families.player import Player
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.inputs import Inputs, Observation
from rl2_lightning.progress import track_slow

MAX_TASKS = 2000  # number of tasks for a constant that is not shipped
MIN_TASKS = 100
TASKS_AT_ONCE = 1000
SEED = 161_102_779  # do not report results on the tasks that this seed draws


@dataclass(frozen=True)
class Tuned:
    """A player with one constant to tune.

    Attributes:
        build: builds the player with a constant.
        candidates: the constants to choose from.
    """

    build: Callable[[float], Player]
    candidates: Sequence[float]


@dataclass(frozen=True)
class TunedTrials(ABC):
    """The trials that players are tuned for; a subclass adds the sizes of its tasks as fields.

    Attributes:
        num_episodes: E, length of a trial, in episodes.
        table: file of the shipped constants.
        max_episodes: maximum number of episodes played with each candidate, over all tasks, if no
            constant is shipped: long trials get fewer tasks.
    """

    num_episodes: int
    table: ClassVar[Path]
    max_episodes: ClassVar[int]

    @property
    @abstractmethod
    def tuned(self) -> Mapping[str, Tuned]:
        """The tuned players by name."""

    @abstractmethod
    def make_env(self, num_tasks: int) -> TaskEnv:
        """The family with tasks of these sizes; always on the CPU.

        So the constants do not depend on the device.
        """

    @property
    def name(self) -> str:
        """The sizes, as part of a file's name."""
        names = [field.name.removeprefix("num_") for field in fields(self)]
        return "-".join(f"{size}-{name}" for size, name in zip(astuple(self), names, strict=True))

    def num_tasks(self, most: int = MAX_TASKS) -> int:
        """The number of tasks to compare candidates on, at most `most`."""
        return max(MIN_TASKS, min(most, self.max_episodes // self.num_episodes))


class TunedPlayer(Player):
    """A player whose constant is looked up or tuned before it first plays.

    Args:
        name: name of the player in `trials.tuned`.
        trials: the trials that it is tuned for.
    """

    def __init__(self, name: str, trials: TunedTrials) -> None:
        self._name = name
        self._trials = trials

    @cached_property
    def player(self) -> Player:
        """The player with its constant."""
        constant = tuned_constant(self._name, self._trials)
        return self._trials.tuned[self._name].build(constant)

    def prepare(self) -> None:
        """Find the constant."""
        self.player.prepare()

    def start(self, tasks: TensorDictBase) -> Any:
        """See `Player.start`."""
        return self.player.start(tasks)

    def choose(self, memory: Any, observation: Observation, generator: torch.Generator) -> Tensor:
        """See `Player.choose`."""
        return self.player.choose(memory, observation, generator)

    def learn(self, memory: Any, observation: Observation, inputs: Inputs) -> Any:
        """See `Player.learn`."""
        return self.player.learn(memory, observation, inputs)


def tuned_constant(name: str, trials: TunedTrials) -> float:
    """Return the constant of a player that earns most on separate tuning tasks.

    For published trials it is shipped. For others it is tuned once on up to 2000 tasks, and then
    read from the user's cache.

    Args:
        name: name of the player in `trials.tuned`.
        trials: the trials that the player is tuned for.

    Returns:
        One of the player's candidates.
    """
    candidates = trials.tuned[name].candidates
    shipped = _read_table(type(trials)).get(trials)
    if shipped is not None:
        return candidates[shipped[name]]
    num_tasks = trials.num_tasks()
    mean_returns = cached_array(
        f"tuning-{name}-{trials.name}-{num_tasks}-tasks",
        (len(candidates),),
        lambda: mean_returns_of_candidates(name, trials, num_tasks)[:, -1],
    )
    return candidates[int(mean_returns.argmax())]


def mean_returns_of_candidates(
    name: str, trials: TunedTrials, num_tasks: int
) -> npt.NDArray[np.float64]:
    """Play every candidate of a player on the same tasks, with the same random seed.

    Args:
        name: name of the player in `trials.tuned`.
        trials: the trials to play.
        num_tasks: number of tasks played with each candidate.

    Returns:
        Mean return of the first 1, 2, … episodes of a trial with each candidate,
        `[num_candidates, num_episodes]`, float64.
    """
    env = trials.make_env(num_tasks)
    env.set_seed(SEED)
    batches = env.sample_tasks(num_tasks).split(TASKS_AT_ONCE)
    tuned = trials.tuned[name]
    total = np.zeros((len(tuned.candidates), trials.num_episodes))
    work = list(product(range(len(batches)), range(len(tuned.candidates))))
    generator = torch.Generator("cpu")
    for batch, candidate in track_slow(work, f"tuning {name} for {trials.name}"):
        tasks = batches[batch]
        player = tuned.build(tuned.candidates[candidate])
        generator.manual_seed(SEED + 1 + batch)
        returns = play_reference(
            player, trials.make_env(len(tasks)), tasks, trials.num_episodes, generator
        )
        total[candidate] += returns.double().sum(0).cumsum(0).numpy()
    return total / num_tasks


@cache
def _read_table(kind: type[TunedTrials]) -> Mapping[TunedTrials, Mapping[str, int]]:
    """Read the index of each player's shipped constant by the sizes of the trials."""
    lines = kind.table.read_text().splitlines()
    shipped = {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        numbers = {name: int(number) for name, number in row.items()}
        shipped[kind(*(numbers[field.name] for field in fields(kind)))] = numbers
    return shipped


def write_table(plays: Mapping[TunedTrials, int], *, with_shorter_trials: bool = False) -> None:
    """Tune the shipped constants of one kind of trials again, and write their table.

    Args:
        plays: the trials to play, each with its number of tasks.
        with_shorter_trials: whether to write constants for the beginnings of these trials, too; for
            players that do not use the length of a trial.
    """
    example = next(iter(plays))
    choices: dict[TunedTrials, list[int]] = {}
    for play, num_tasks in plays.items():
        lengths = range(1, play.num_episodes + 1) if with_shorter_trials else [play.num_episodes]
        for name in play.tuned:
            best = mean_returns_of_candidates(name, play, num_tasks).argmax(0)
            for length in lengths:
                trials = replace(play, num_episodes=length)
                choices.setdefault(trials, []).append(int(best[length - 1]))
    sizes = [f"{num_tasks} tasks of {play.num_episodes}" for play, num_tasks in plays.items()]
    with example.table.open("w", newline="") as table:
        table.write("# Indices of the best candidates, from 0; compared on\n")
        table.write(f"# {', '.join(dict.fromkeys(sizes))} episodes (seed {SEED})\n")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([*(field.name for field in fields(example)), *example.tuned])
        writer.writerows([*astuple(trials), *row] for trials, row in choices.items())
