"""Two arms of which one pays with probability p and the other with 1 - p (arXiv 1611.05763).

Every pull, of either arm, is one draw that speaks for the first arm or for the second: a reward
speaks for the arm that was pulled, a failure for the other one. Where the arms are known to
depend on each other, pulls of both teach the same, and nothing is to be gained by exploring.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rl2_lightning.oracles.bandit_policies import BanditPolicy, Greedy, Random, ThompsonSampling
from rl2_lightning.oracles.bandits import BanditTrials
from rl2_lightning.oracles.beta import sample_beta
from rl2_lightning.oracles.gittins import GittinsIndex
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.tuning import TunedPlayer


@dataclass(frozen=True)
class DependentPrior:
    """The law of the first arm's probability, and what is believed of it after some pulls.

    Attributes:
        worse_arm: probability of the worse of the arms, either of which may be the first; None
            where the first arm's probability is drawn from U[0, 1].
    """

    worse_arm: float | None

    def sample(self, num_tasks: int, generator: torch.Generator) -> Tensor:
        """Draws the probabilities of both arms, `[num_tasks, 2]`, float32."""
        first = torch.rand(num_tasks, 1, generator=generator, device=generator.device)
        if self.worse_arm is not None:
            first = torch.where(first < 0.5, self.worse_arm, 1 - self.worse_arm)
        return torch.cat((first, 1 - first), 1)

    def mean(self, for_first: Tensor, for_second: Tensor) -> Tensor:
        """Gives the posterior mean of the first arm's probability.

        Args:
            for_first: pulls that spoke for the first arm, any shape, float.
            for_second: pulls that spoke for the second, same shape, float.

        Returns:
            Same shape and dtype.
        """
        if self.worse_arm is None:
            return (for_first + 1) / (for_first + for_second + 2)
        first_is_better = self._first_is_better(for_first - for_second)
        return self.worse_arm + (1 - 2 * self.worse_arm) * first_is_better

    def first_is_better_in_a_sample(
        self, for_first: Tensor, for_second: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draws from the posterior whether the first arm is the better one.

        Args:
            for_first: pulls that spoke for the first arm, any shape, float32.
            for_second: pulls that spoke for the second, same shape, float32.
            generator: source of randomness, on the device of the counts.

        Returns:
            Same shape, bool.
        """
        if self.worse_arm is None:
            return sample_beta(for_first + 1, for_second + 1, generator) >= 0.5
        draw = torch.rand(for_first.shape, generator=generator, device=for_first.device)
        return draw < self._first_is_better(for_first - for_second)

    def _first_is_better(self, excess: Tensor) -> Tensor:
        """The posterior probability of it, by the excess of the pulls that spoke for it."""
        assert self.worse_arm is not None
        odds = (1 - self.worse_arm) / self.worse_arm if self.worse_arm else math.inf
        # In this form neither large counts nor arms that never pay give inf / inf.
        return 1 / (1 + torch.pow(odds, -excess))


def evidence(successes: Tensor, failures: Tensor) -> tuple[Tensor, Tensor]:
    """Counts the pulls that spoke for the first and for the second arm.

    Args:
        successes: pulls of each arm that paid, `[B, 2]`, float32.
        failures: pulls of each arm that did not, `[B, 2]`, float32.

    Returns:
        Two counts, each `[B]`, float32.
    """
    for_first, for_second = (successes + failures.flip(1)).unbind(1)
    return for_first, for_second


class ThompsonSamplingDependent(BanditPolicy):
    """Pulls the arm that is better in a sample of the posterior under the family's true prior.

    Args:
        prior: the law of the arms.
    """

    def __init__(self, prior: DependentPrior) -> None:
        self.prior = prior

    def choose(
        self, successes: Tensor, failures: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks the sampled arm; see `BanditPolicy.choose`."""
        counts = evidence(successes, failures)
        return (~self.prior.first_is_better_in_a_sample(*counts, generator)).long()


class BayesOptimalDependent(BanditPolicy):
    """Maximises the expected return of a trial under the family's true prior.

    As both arms teach the same, it is the arm of the higher posterior mean.

    Args:
        prior: the law of the arms.
        num_pulls: length of a trial, in pulls.
    """

    def __init__(self, prior: DependentPrior, num_pulls: int) -> None:
        self.prior = prior
        self.horizon: int = num_pulls

    @cached_property
    def value(self) -> float:
        """The exact expected return of a trial, in units of reward.

        A dynamic program over the number of pulls that spoke for the first arm, in float64.
        """
        reached = torch.ones(1, dtype=torch.float64, device="cpu")
        value = 0.0
        for pull in range(self.horizon):
            for_first = torch.arange(pull + 1, dtype=torch.float64, device="cpu")
            mean = self.prior.mean(for_first, pull - for_first)
            value += float((reached * torch.maximum(mean, 1 - mean)).sum())
            reached = _next_distribution(reached, mean)
        return value

    def choose(
        self, successes: Tensor, failures: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks the better arm on average; see `BanditPolicy.choose`."""
        return (self.prior.mean(*evidence(successes, failures)) < 0.5).long()


def _next_distribution(reached: Tensor, mean: Tensor) -> Tensor:
    """The probabilities of the counts after one more pull, `[n + 1]`, from those `[n]` before."""
    following = reached.new_zeros(len(reached) + 1)
    following[1:] += reached * mean
    following[:-1] += reached * (1 - mean)
    return following


def dependent_bandit_oracles(prior: DependentPrior, num_pulls: int) -> dict[str, Oracle]:
    """Gives the players of two dependent arms.

    Those called independent believe in two arms with the prior Beta(1, 1) each, as in the
    comparisons of arXiv 1611.05763; the constant of UCB1 is tuned on such arms. The others know
    the family's prior, and that each pull tells of both arms. An upper confidence bound or an
    index under that prior would be the optimum itself, as neither arm is ever better known.

    Args:
        prior: the law of the arms.
        num_pulls: length of a trial, in pulls.

    Returns:
        The players by name; the last one is the exact optimum, "bayes_optimal".
    """
    return {
        "random": Random(),
        "greedy_independent": Greedy(),
        "thompson_independent": ThompsonSampling(),
        "ucb1_independent": TunedPlayer("ucb1", BanditTrials(num_pulls, num_arms=2)),
        "gittins_independent": GittinsIndex(num_pulls),
        "thompson": ThompsonSamplingDependent(prior),
        "bayes_optimal": BayesOptimalDependent(prior, num_pulls),
    }
