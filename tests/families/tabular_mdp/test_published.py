"""Every player with the prior mean 0 meets the published figures within three standard errors.

The published constants are the best of a grid on the reported tasks, ours were tuned on others.
"""

import csv
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from rl2_lightning.families.tabular_mdp import TabularMDP
from tests.families.tabular_mdp.draws import mdps, random_mdps, returns_of

PUBLISHED = Path(__file__).parents[3] / "results" / "published" / "mdp.csv"
PUBLISHED_TASKS = 1000
ROUNDING_VARIANCE = 0.1**2 / 12
PLAYERS = ["random", "psrl", "opsrl", "ucrl2", "beb", "epsilon_greedy", "greedy"]


def cells_of_the_table():
    for num_episodes, player in product([10, 25, 50, 75, 100], PLAYERS):
        marks = [pytest.mark.slow] if num_episodes > 10 else []
        yield pytest.param(num_episodes, player, marks=marks)


CELLS = pytest.mark.parametrize(("num_episodes", "player"), list(cells_of_the_table()))


@cache
def published_figures() -> dict[int, dict[str, float]]:
    rows = csv.DictReader(
        line for line in PUBLISHED.read_text().splitlines() if not line.startswith("#")
    )
    return {int(row["n"]): {name: float(row[name]) for name in PLAYERS} for row in rows}


@cache
def published_mdps():
    """The tasks of the published figures: NumPy's old generator, seeds 0 to 999.

    The authors' code uses these seeds, and draws each MDP twice: when the environment is built, and
    when it is reset; the second one is played.
    """
    num_states, num_actions = 10, 5
    all_rewards, all_transitions = [], []
    for seed in range(PUBLISHED_TASKS):
        random = np.random.RandomState(seed)
        for _ in range(2):
            mean_rewards = 1 + random.normal(size=(num_states, num_actions))
            transitions = random.dirichlet(np.ones(num_states), size=(num_states, num_actions))
        all_rewards.append(mean_rewards)
        all_transitions.append(transitions)
    return mdps(
        *(torch.tensor(np.array(p), dtype=torch.float32) for p in (all_rewards, all_transitions))
    )


def trial_returns(player: str, num_episodes: int, tasks, seed: int) -> torch.Tensor:
    name = player if player == "random" else f"{player}_prior_mean_0"
    return returns_of(TabularMDP(1).players(num_episodes)[name], tasks, num_episodes, seed).sum(1)


@CELLS
def test_within_three_standard_errors_on_other_tasks(num_episodes, player):
    returns = trial_returns(player, num_episodes, random_mdps(PUBLISHED_TASKS, seed=0), seed=1)
    variance = returns.var().item() * 2 / PUBLISHED_TASKS + ROUNDING_VARIANCE
    published = published_figures()[num_episodes][player]
    z_score = (returns.mean().item() - published) / variance**0.5
    assert abs(z_score) < 3, f"{returns.mean():.1f}, published {published}: z = {z_score:+.2f}"


@CELLS
def test_within_three_standard_errors_on_the_published_tasks(num_episodes, player):
    tasks = published_mdps()
    returns = torch.stack([trial_returns(player, num_episodes, tasks, seed) for seed in range(2)])
    # The tasks are the same, so that the figures only differ by the randomness of the play.
    variance_of_play = returns.var(0).mean().item()
    variance = variance_of_play * (1 + 1 / 2) / PUBLISHED_TASKS + ROUNDING_VARIANCE
    published = published_figures()[num_episodes][player]
    z_score = (returns.mean().item() - published) / variance**0.5
    assert abs(z_score) < 3, f"{returns.mean():.1f}, published {published}: z = {z_score:+.2f}"
