"""Every player meets the published figures within three standard errors.

The published constants are the best of a grid on the reported tasks, ours were tuned on others.
"""

import csv
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.player import Player
from tests.families.bandits import bandits, play, random_bandits

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "mab.csv"
PUBLISHED_TASKS = 1000
ROUNDING_VARIANCE = 0.1**2 / 12
PLAYERS = [
    "random",
    "gittins",
    "thompson",
    "optimistic_thompson",
    "ucb1",
    "epsilon_greedy",
    "greedy",
]


@cache
def published_figures() -> dict[tuple[int, int], dict[str, float]]:
    rows = csv.DictReader(
        line for line in PUBLISHED.read_text().splitlines() if not line.startswith("#")
    )
    return {
        (int(row["num_pulls"]), int(row["num_arms"])): {name: float(row[name]) for name in PLAYERS}
        for row in rows
    }


@cache
def published_bandits(num_arms: int):
    """The tasks of the published figures: NumPy's old generator, seeds 0 to 999.

    The authors' code sets these seeds before each trial. The figures confirm that these are the
    tasks: at 500 pulls of 10 arms every learning player earns 2 to 4 less on them than on fresh
    tasks.
    """
    rows = [np.random.RandomState(seed).uniform(size=num_arms) for seed in range(PUBLISHED_TASKS)]
    return bandits(torch.tensor(np.array(rows), dtype=torch.float32))


def published_player(name: str, num_arms: int, num_pulls: int) -> Player:
    return BernoulliBandit(1, num_arms=num_arms).players(num_pulls)[name]


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("num_arms", [5, 10, 50])
@pytest.mark.parametrize("num_pulls", [10, 100])
def test_within_three_standard_errors_on_other_tasks(num_pulls, num_arms, player):
    slow = player == "optimistic_thompson"
    num_tasks = {10: 4000 if slow else 20_000, 100: 1000 if slow else 4000}[num_pulls]
    tasks = random_bandits(num_tasks, num_arms, seed=0)
    returns = play(published_player(player, num_arms, num_pulls), tasks, num_pulls, seed=3).sum(1)
    variance = returns.var().item() * (1 / PUBLISHED_TASKS + 1 / num_tasks) + ROUNDING_VARIANCE
    published = published_figures()[num_pulls, num_arms][player]
    z_score = (returns.mean().item() - published) / variance**0.5
    assert abs(z_score) < 3, f"{returns.mean():.2f}, published {published}: z = {z_score:+.2f}"


def cells_of_the_table():
    for num_pulls, num_arms, player in product([10, 100, 500], [5, 10, 50], PLAYERS):
        slow = num_pulls == 500 or (player == "optimistic_thompson" and num_pulls == 100)
        marks = [pytest.mark.slow] if slow else []
        yield pytest.param(num_pulls, num_arms, player, marks=marks)


@pytest.mark.parametrize(("num_pulls", "num_arms", "player"), list(cells_of_the_table()))
def test_within_three_standard_errors_on_the_published_tasks(num_pulls, num_arms, player):
    chosen = published_player(player, num_arms, num_pulls)
    tasks = published_bandits(num_arms)
    returns = torch.stack([play(chosen, tasks, num_pulls, seed=s).sum(1) for s in range(2)])
    # The tasks are the same, so that the figures only differ by the randomness of the pulls.
    variance_of_play = returns.var(0).mean().item()
    variance = variance_of_play * (1 + 1 / 2) / PUBLISHED_TASKS + ROUNDING_VARIANCE
    published = published_figures()[num_pulls, num_arms][player]
    z_score = (returns.mean().item() - published) / variance**0.5
    assert z_score > -3, f"{returns.mean():.2f}, published {published}: z = {z_score:+.2f}"
    # The published index is an approximation: the recursion earns up to 3 more at 500 pulls.
    assert z_score < 3 or player == "gittins", (
        f"{returns.mean():.2f}, published {published}: z = {z_score:+.2f}"
    )
