"""Two arms of which one pays with probability p and the other with 1 - p (arXiv 1611.05763).

Every pull of either arm is evidence for one of the arms: a reward for the arm that was pulled, a
failure for the other one. If the dependence is known, pulls of both arms are equally informative,
and there is nothing to gain from exploring.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from rl2_lightning.families.bandits.env import ARM_PROBABILITIES, BernoulliArms
from rl2_lightning.families.bandits.gittins import GittinsIndex
from rl2_lightning.families.bandits.policies import (
    BanditPlayer,
    Greedy,
    Tally,
    ThompsonSampling,
)
from rl2_lightning.families.bernoulli_bandit import BanditTrials
from rl2_lightning.families.gamma import sample_beta
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.tuning import TunedPlayer
from rl2_lightning.inputs import Observation
from rl2_lightning.settings import Settings, between


@dataclass
class DependentBanditSettings(Settings):
    """Settings of the family.

    Attributes:
        worse_arm: probability of the worse arm, which is the first or the second one with equal
            probability; None to draw the first arm's from U[0, 1].
    """

    worse_arm: float | None = between(0, 0.5, default=None)


class DependentBandit(BernoulliArms):
    """Two arms that pay 1 with probability p and 1 - p; an episode is one pull.

    The observation, `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        device: where they are played.
        **settings: fields of `DependentBanditSettings`.
    """

    Settings = DependentBanditSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(DependentBanditSettings, settings)
        super().__init__(num_tasks, 2, device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the arms' probabilities, `[num_tasks, 2]`."""
        first = torch.rand(num_tasks, 1, generator=self.generator, device=self.device)
        worse_arm = self.settings.worse_arm
        if worse_arm is not None:
            first = torch.where(first < 0.5, worse_arm, 1 - worse_arm)
        probabilities = torch.cat((first, 1 - first), 1)
        return TensorDict({ARM_PROBABILITIES: probabilities}, [num_tasks], self.device)

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """Players that know that the arms depend on each other, and players that do not.

        Those called independent assume two independent arms with the prior Beta(1, 1) each, as in
        the comparisons of arXiv 1611.05763; the constant of UCB1 is tuned on such arms. The others
        know the family's prior, and that each pull is informative about both arms. An upper
        confidence bound or an index under that prior would be the optimum itself, as both arms are
        always known equally well. The last one is the exact optimum, "bayes_optimal".
        """
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "greedy_independent": Greedy(2),
            "thompson_independent": ThompsonSampling(2),
            "ucb1_independent": TunedPlayer("ucb1", BanditTrials(num_episodes, num_arms=2)),
            "gittins_independent": GittinsIndex(2, num_episodes),
            "thompson": ThompsonSamplingDependent(self.settings.worse_arm),
            "bayes_optimal": BayesOptimalDependent(self.settings.worse_arm, num_episodes),
        }


class ThompsonSamplingDependent(BanditPlayer):
    """Pulls the arm that is better in a sample of the posterior under the family's true prior.

    Args:
        worse_arm: probability of the worse arm, as in `DependentBanditSettings`.
    """

    def __init__(self, worse_arm: float | None) -> None:
        super().__init__(num_arms=2)
        self.worse_arm = worse_arm

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick the better arm of the sample."""
        for_first, for_second = evidence(memory)
        if self.worse_arm is None:
            return (sample_beta(for_first + 1, for_second + 1, generator) < 0.5).long()
        draw = torch.rand(for_first.shape, generator=generator, device=for_first.device)
        return (draw >= first_is_better(self.worse_arm, for_first - for_second)).long()


class BayesOptimalDependent(BanditPlayer):
    """Maximises the expected return of a trial under the family's true prior.

    As both arms are equally informative, it pulls the arm of the higher posterior mean.

    Args:
        worse_arm: probability of the worse arm, as in `DependentBanditSettings`.
        num_pulls: length of a trial, in pulls.
    """

    def __init__(self, worse_arm: float | None, num_pulls: int) -> None:
        super().__init__(num_arms=2)
        self.worse_arm = worse_arm
        self.num_pulls = num_pulls

    @cached_property
    def value(self) -> float:
        """The exact expected return of a trial, in units of reward.

        Computed by a dynamic program in float64, over the number of pulls in favour of the first
        arm.
        """
        reached = torch.ones(1, dtype=torch.float64, device="cpu")
        value = 0.0
        for pull in range(self.num_pulls):
            for_first = torch.arange(pull + 1, dtype=torch.float64, device="cpu")
            mean = first_arm_mean(self.worse_arm, for_first, pull - for_first)
            value += float((reached * torch.maximum(mean, 1 - mean)).sum())
            following = reached.new_zeros(pull + 2)
            following[1:] += reached * mean
            following[:-1] += reached * (1 - mean)
            reached = following
        return value

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick the arm of the higher posterior mean."""
        return (first_arm_mean(self.worse_arm, *evidence(memory)) < 0.5).long()


def evidence(tally: Tally) -> tuple[Tensor, Tensor]:
    """Count the pulls in favour of the first and of the second arm, each `[B]`, float32."""
    failures = tally.pulls - tally.totals
    for_first, for_second = (tally.totals + failures.flip(1)).unbind(1)
    return for_first, for_second


def first_arm_mean(worse_arm: float | None, for_first: Tensor, for_second: Tensor) -> Tensor:
    """Return the posterior mean of the first arm's probability.

    Args:
        worse_arm: probability of the worse arm, as in `DependentBanditSettings`.
        for_first: pulls in favour of the first arm, any shape, float.
        for_second: pulls in favour of the second, same shape, float.

    Returns:
        Same shape and dtype.
    """
    if worse_arm is None:
        return (for_first + 1) / (for_first + for_second + 2)
    better = first_is_better(worse_arm, for_first - for_second)
    return worse_arm + (1 - 2 * worse_arm) * better


def first_is_better(worse_arm: float, excess: Tensor) -> Tensor:
    """The posterior probability that the first arm is better, by the excess of pulls for it."""
    odds = (1 - worse_arm) / worse_arm if worse_arm else math.inf
    # This form avoids inf / inf for large counts and for arms that never pay.
    return 1 / (1 + torch.pow(odds, -excess))
