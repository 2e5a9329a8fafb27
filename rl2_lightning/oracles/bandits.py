"""The reference players of Bernoulli bandits, together."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Self

import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.oracles.bandit_policies import (
    UCB1,
    EpsilonGreedy,
    Greedy,
    OptimisticThompsonSampling,
    Random,
    ThompsonSampling,
)
from rl2_lightning.oracles.bayes_optimal import BayesOptimal, is_tractable
from rl2_lightning.oracles.gittins import GittinsIndex
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.tuning import Family, TunedPlayer, TunedTrials

SHIPPED_PULLS = (10, 100, 500)
SHIPPED_ARMS = (5, 10, 50)
SHIPPED_MAX_TASKS = 20_000  # tasks for a shipped constant

FAMILIES = {
    "epsilon_greedy": Family(EpsilonGreedy, [tenth / 10 for tenth in range(11)]),
    "optimistic_thompson": Family(
        lambda constant: OptimisticThompsonSampling(int(constant)), range(1, 21)
    ),
    "ucb1": Family(UCB1, [tenth / 10 for tenth in range(11)]),
}


@dataclass(frozen=True)
class BanditTrials(TunedTrials):
    """Trials of Bernoulli bandits.

    Attributes:
        num_pulls: length of a trial, in pulls.
        num_arms: K, the number of arms.
    """

    table = "tuned_constants.csv"
    unit = "pulls"
    max_episodes = 500_000
    num_pulls: int
    num_arms: int

    @property
    def length(self) -> int:
        """Pulls of a trial."""
        return self.num_pulls

    @property
    def name(self) -> str:
        """The sizes, as part of a file's name."""
        return f"{self.num_pulls}-pulls-{self.num_arms}-arms"

    @property
    def families(self) -> Mapping[str, Family]:
        """The tuned players by name."""
        return FAMILIES

    def draw_tasks(self, num_tasks: int, generator: torch.Generator) -> TensorDict:
        """Draws the arms' probabilities, `[num_tasks, K]`."""
        probabilities = torch.rand(
            num_tasks, self.num_arms, generator=generator, device=generator.device
        )
        return TensorDict({keys.ARM_PROBABILITIES: probabilities}, [num_tasks])

    @classmethod
    def shipped_plays(cls) -> Mapping[Self, int]:
        """The published bandits, each with its number of tasks."""
        plays = [cls(*sizes) for sizes in product(SHIPPED_PULLS, SHIPPED_ARMS)]
        return {play: play.num_tasks(SHIPPED_MAX_TASKS) for play in plays}


def bernoulli_bandit_oracles(num_arms: int, num_pulls: int) -> dict[str, Oracle]:
    """Gives the players of arXiv 1611.02779 (Table 1), and the exact optimum where it is cheap.

    Nothing is computed before a player's first play.

    Args:
        num_arms: K, the number of arms.
        num_pulls: length of a trial, in pulls.

    Returns:
        The players by name. The last one is the reference, the optimum as best known:
        "bayes_optimal" where its dynamic program is small, else "gittins".
    """
    trials = BanditTrials(num_pulls, num_arms)
    oracles: dict[str, Oracle] = {
        "random": Random(),
        "greedy": Greedy(),
        "epsilon_greedy": TunedPlayer("epsilon_greedy", trials),
        "thompson": ThompsonSampling(),
        "optimistic_thompson": TunedPlayer("optimistic_thompson", trials),
        "ucb1": TunedPlayer("ucb1", trials),
        "gittins": GittinsIndex(num_pulls),
    }
    if is_tractable(num_arms, num_pulls):
        oracles["bayes_optimal"] = BayesOptimal(num_arms, num_pulls)
    return oracles
