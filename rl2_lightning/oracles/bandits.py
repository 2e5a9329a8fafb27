"""The reference players of Bernoulli bandits, together."""

from functools import cached_property

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.oracles.bandit_policies import Greedy, Random, ThompsonSampling
from rl2_lightning.oracles.bayes_optimal import BayesOptimal, is_tractable
from rl2_lightning.oracles.gittins import GittinsIndex
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.tuning import FAMILIES, tuned_constant


class TunedPlayer(Oracle):
    """A player whose constant is looked up, or tuned, when it first plays.

    Args:
        family: a key of `rl2_lightning.oracles.tuning.FAMILIES`.
        num_arms: K, the number of arms it is tuned for.
        num_pulls: length of the trial it is tuned for, in pulls.
    """

    def __init__(self, family: str, num_arms: int, num_pulls: int) -> None:
        self.family = family
        self.num_arms = num_arms
        self.num_pulls = num_pulls

    @cached_property
    def constant(self) -> float:
        """The constant that the player uses."""
        return tuned_constant(self.family, self.num_arms, self.num_pulls)

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every bandit; see `Oracle.play`."""
        player = FAMILIES[self.family].build(self.constant)
        return player.play(tasks, num_episodes, generator)


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
    oracles: dict[str, Oracle] = {
        "random": Random(),
        "greedy": Greedy(),
        "epsilon_greedy": TunedPlayer("epsilon_greedy", num_arms, num_pulls),
        "thompson": ThompsonSampling(),
        "optimistic_thompson": TunedPlayer("optimistic_thompson", num_arms, num_pulls),
        "ucb1": TunedPlayer("ucb1", num_arms, num_pulls),
        "gittins": GittinsIndex(num_pulls),
    }
    if is_tractable(num_arms, num_pulls):
        oracles["bayes_optimal"] = BayesOptimal(num_arms, num_pulls)
    return oracles
