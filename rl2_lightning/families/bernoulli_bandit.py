"""Bernoulli bandits (arXiv 1611.02779, section 3.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict

from rl2_lightning.families.bandits.bayes_optimal import BayesOptimal, is_tractable
from rl2_lightning.families.bandits.env import ARM_PROBABILITIES, BernoulliArms
from rl2_lightning.families.bandits.gittins import GittinsIndex
from rl2_lightning.families.bandits.policies import (
    UCB1,
    EpsilonGreedy,
    Greedy,
    OptimisticThompsonSampling,
    ThompsonSampling,
)
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.tuning import Tuned, TunedPlayer, TunedTrials
from rl2_lightning.settings import Settings, between

TENTHS = [tenth / 10 for tenth in range(11)]


@dataclass
class BernoulliBanditSettings(Settings):
    """Settings of the family.

    Attributes:
        num_arms: K.
    """

    num_arms: int = between(2, default=5)


class BernoulliBandit(BernoulliArms):
    """Arms that pay 1 with an unknown probability p ~ U[0, 1]; an episode is one pull.

    The observation, `[B, 1]`, is the constant 1: a bandit has a single state.

    Args:
        num_tasks: B, the number of bandits played at once.
        device: where they are played.
        **settings: fields of `BernoulliBanditSettings`.
    """

    Settings = BernoulliBanditSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(BernoulliBanditSettings, settings)
        super().__init__(num_tasks, self.settings.num_arms, device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the arms' probabilities, `[num_tasks, K]`."""
        shape = (num_tasks, self.settings.num_arms)
        probabilities = torch.rand(shape, generator=self.generator, device=self.device)
        return TensorDict({ARM_PROBABILITIES: probabilities}, [num_tasks], self.device)

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """The players of arXiv 1611.02779 (Table 1), and the exact optimum where it is cheap.

        The last one is the optimum or the best known player: "bayes_optimal" if its dynamic program
        is small, else "gittins".
        """
        num_arms = self.settings.num_arms
        trials = BanditTrials(num_episodes, num_arms)
        players = {
            "random": RandomPlayer(self.action_spec_unbatched),
            "greedy": Greedy(num_arms),
            "epsilon_greedy": TunedPlayer("epsilon_greedy", trials),
            "thompson": ThompsonSampling(num_arms),
            "optimistic_thompson": TunedPlayer("optimistic_thompson", trials),
            "ucb1": TunedPlayer("ucb1", trials),
            "gittins": GittinsIndex(num_arms, num_episodes),
        }
        if is_tractable(num_arms, num_episodes):
            players["bayes_optimal"] = BayesOptimal(num_arms, num_episodes)
        return players


@dataclass(frozen=True)
class BanditTrials(TunedTrials):
    """Trials that players of Bernoulli bandits are tuned for.

    Attributes:
        num_arms: K.
    """

    num_arms: int
    table = Path(__file__).parent / "bandits" / "tuned_constants.csv"
    max_episodes = 500_000

    @property
    def tuned(self) -> Mapping[str, Tuned]:
        """The tuned players, with the grids of arXiv 1611.02779, section 3."""
        return {
            "epsilon_greedy": Tuned(partial(EpsilonGreedy, self.num_arms), TENTHS),
            "optimistic_thompson": Tuned(
                partial(OptimisticThompsonSampling, self.num_arms), range(1, 21)
            ),
            "ucb1": Tuned(partial(UCB1, self.num_arms), TENTHS),
        }

    def make_env(self, num_tasks: int) -> BernoulliBandit:
        """Bandits with that many arms, on the CPU."""
        return BernoulliBandit(num_tasks, num_arms=self.num_arms)
