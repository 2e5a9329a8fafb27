"""The reference players of random tabular MDPs, together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from tensordict import TensorDict

from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.tabular_mdp import sample_mdps
from rl2_lightning.oracles.tabular_policies import (
    UCRL2,
    BayesianExplorationBonus,
    EpsilonGreedyTabular,
    OptimalTabular,
    PosteriorSampling,
    RandomTabular,
)
from rl2_lightning.oracles.tabular_posterior import Prior
from rl2_lightning.oracles.tuning import Family, TunedPlayer, TunedTrials

SHIPPED_SIZES = (10, 5, 10)  # states, actions, steps of an episode
SHIPPED_EPISODES = 100
SHIPPED_TASKS = 1000

# What the published players believed before they saw anything.
PRIOR_MEAN_0 = Prior(mean_reward=0)
GREEDY_PRIOR_MEAN_0 = Prior(mean_reward=0, reward_precision=1e-4, concentration=1e-4)
UCRL2_PRIOR_MEAN_0 = Prior(mean_reward=0, reward_precision=1e-4, concentration=1e-5)

EPSILONS = [tenth / 10 for tenth in range(1, 11)]
NUM_SAMPLES = range(1, 21)
SCALES = np.geomspace(1e-4, 1, 21).tolist()


@dataclass(frozen=True)
class TabularTrials(TunedTrials):
    """Trials of random tabular MDPs.

    Attributes:
        num_episodes: length of a trial, in episodes.
        num_states: S.
        num_actions: A.
        horizon: H, the length of an episode, in env steps.
    """

    table = "tuned_constants_tabular.csv"
    unit = "episodes"
    max_episodes = 5000  # before each of which the players plan
    num_episodes: int
    num_states: int
    num_actions: int
    horizon: int

    @property
    def length(self) -> int:
        """Episodes of a trial."""
        return self.num_episodes

    @property
    def name(self) -> str:
        """The sizes, as part of a file's name."""
        return (
            f"{self.num_episodes}-episodes-{self.num_states}-states-{self.num_actions}-actions-"
            f"{self.horizon}-steps"
        )

    @property
    def families(self) -> Mapping[str, Family]:
        """The tuned players by name."""
        return {
            **_families(self.horizon, "", Prior(), Prior(), Prior()),
            **_families(
                self.horizon,
                "_prior_mean_0",
                PRIOR_MEAN_0,
                GREEDY_PRIOR_MEAN_0,
                UCRL2_PRIOR_MEAN_0,
            ),
        }

    def draw_tasks(self, num_tasks: int, generator: torch.Generator) -> TensorDict:
        """Draws MDPs of these sizes, `[num_tasks]`."""
        return sample_mdps(num_tasks, self.num_states, self.num_actions, generator)

    @classmethod
    def shipped_plays(cls) -> Mapping[Self, int]:
        """The longest of the published trials, with its number of tasks."""
        return {cls(SHIPPED_EPISODES, *SHIPPED_SIZES): SHIPPED_TASKS}

    def beginnings(self) -> Sequence[Self]:
        """The trials of all lengths up to this one: no player looks at how long a trial is."""
        sizes = (self.num_states, self.num_actions, self.horizon)
        return [type(self)(length, *sizes) for length in range(1, self.num_episodes + 1)]


def _families(
    horizon: int, suffix: str, prior: Prior, greedy_prior: Prior, ucrl2_prior: Prior
) -> dict[str, Family]:
    """The tuned players of some priors."""

    def posterior_sampling(constant: float) -> PosteriorSampling:
        return PosteriorSampling(horizon, prior, int(constant))

    return {
        f"epsilon_greedy{suffix}": Family(
            partial(EpsilonGreedyTabular, horizon, greedy_prior), EPSILONS
        ),
        f"opsrl{suffix}": Family(posterior_sampling, NUM_SAMPLES),
        f"ucrl2{suffix}": Family(partial(UCRL2, horizon, ucrl2_prior), SCALES),
        f"beb{suffix}": Family(partial(BayesianExplorationBonus, horizon, prior), SCALES),
    }


def tabular_mdp_oracles(
    num_states: int, num_actions: int, horizon: int, num_episodes: int
) -> dict[str, Oracle]:
    """Gives the players of arXiv 1611.02779 (Table 2), and the optimum for a known MDP.

    Each comes twice: with the prior that the tasks are drawn from, and as published, with a prior
    mean reward of 0 where the tasks have 1. Nothing is computed before a player's first play.

    Args:
        num_states: S.
        num_actions: A.
        horizon: H, the length of an episode, in env steps.
        num_episodes: length of a trial, in episodes.

    Returns:
        The players by name. The last one is the reference, "optimal_policy": it knows the MDP,
        which no learner does, so that no learner reaches it.
    """
    trials = TabularTrials(num_episodes, num_states, num_actions, horizon)
    tuned = {name: TunedPlayer(name, trials) for name in trials.families}
    return {
        "random": RandomTabular(horizon),
        "greedy": EpsilonGreedyTabular(horizon, Prior()),
        "greedy_prior_mean_0": EpsilonGreedyTabular(horizon, GREEDY_PRIOR_MEAN_0),
        "psrl": PosteriorSampling(horizon, Prior()),
        "psrl_prior_mean_0": PosteriorSampling(horizon, PRIOR_MEAN_0),
        **tuned,
        "optimal_policy": OptimalTabular(horizon),
    }
