"""Two arms whose probabilities p and 1 - p drift while they are played (arXiv 1611.05763).

p starts uniform in [0, 1] and does a Gaussian random walk that is reflected at 0 and 1, so that
it stays uniform. The volatility, the walk's standard deviation a pull, is low or high.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.bandit_policies import BanditPolicy, Random, ThompsonSampling
from rl2_lightning.oracles.bandits import FAMILIES, BanditTrials
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow
from rl2_lightning.oracles.tuning import tuned_constant

NUM_CELLS = 128  # of the filter's grid over [0, 1]


@dataclass(frozen=True)
class DriftLaw:
    """The law of the tasks, and of the drift within each.

    Attributes:
        low_volatility: standard deviation of the drift a pull, in half of the tasks.
        high_volatility: the same in the other half.
    """

    low_volatility: float
    high_volatility: float

    def sample(self, num_tasks: int, generator: torch.Generator) -> TensorDict:
        """Draws tasks on the device of the generator.

        Args:
            num_tasks: B, tasks to draw.
            generator: source of all randomness.

        Returns:
            The first arm's probability at the first pull, and the volatility, each `[B, 1]`,
            float32; batch size `[B]`.
        """
        device = generator.device
        start, side = torch.rand(2, num_tasks, 1, generator=generator, device=device)
        volatility = torch.where(side < 0.5, self.low_volatility, self.high_volatility)
        return TensorDict(
            {keys.FIRST_ARM_PROBABILITY: start, keys.VOLATILITY: volatility}, [num_tasks], device
        )


def drift(probability: Tensor, volatility: Tensor, generator: torch.Generator) -> Tensor:
    """Lets the first arm's probability drift for one pull.

    Args:
        probability: `[B, 1]`, float32.
        volatility: `[B, 1]`, float32.
        generator: source of randomness, on the device of the probabilities.

    Returns:
        `[B, 1]`, float32, in [0, 1].
    """
    noise = torch.randn(probability.shape, generator=generator, device=probability.device)
    # Reflected at 0 and 1, however far it goes: the walk has the period 2.
    moved = (probability + volatility * noise).remainder(2)
    return torch.minimum(moved, 2 - moved)


def pull_arms(probability: Tensor, arm: Tensor, generator: torch.Generator) -> Tensor:
    """Pulls an arm of every bandit.

    Args:
        probability: of the first arm, `[B, 1]`, float32.
        arm: `[B]`, int64.
        generator: source of randomness, on the device of the probabilities.

    Returns:
        Reward, `[B, 1]`, float32, 0 or 1.
    """
    draw = torch.rand(probability.shape, generator=generator, device=probability.device)
    return (draw < arm_probability(probability, arm)).float()


def arm_probability(probability: Tensor, arm: Tensor) -> Tensor:
    """Gives the probability of the arm `[B]` from that of the first one, `[B, 1]`."""
    return torch.where(arm.unsqueeze(1) == 0, probability, 1 - probability)


class RestlessPolicy(Oracle):
    """A rule that picks an arm from what it keeps of the pulls so far."""

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every bandit, all at once on the device of the tasks.

        Args:
            tasks: hold the first arm's probability at the first pull, and the volatility, each
                `[B, 1]`, float32; batch size `[B]`.
            num_episodes: length of each trial, in pulls.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            Reward of every pull, `[B, num_episodes]`, float32, 0 or 1.
        """
        probability = tasks[keys.FIRST_ARM_PROBABILITY]
        memory = self.start(probability)
        rewards = probability.new_empty(num_episodes, len(probability))
        for pull in track_slow(range(num_episodes), f"playing {type(self).__name__}"):
            arm = self.choose(memory, pull, generator)
            reward = pull_arms(probability, arm, generator).squeeze(1)
            memory = self.learn(memory, arm, reward)
            rewards[pull] = reward
            probability = drift(probability, tasks[keys.VOLATILITY], generator)
        return rewards.T.contiguous()

    @abstractmethod
    def start(self, like: Tensor) -> Tensor:
        """Gives the memory `[B, ...]` before the first pull, like `[B, 1]` in device and dtype."""

    @abstractmethod
    def choose(self, memory: Tensor, pull: int, generator: torch.Generator) -> Tensor:
        """Picks the next arm `[B]`, int64, from the memory `[B, ...]`; pulls count from 0."""

    @abstractmethod
    def learn(self, memory: Tensor, arm: Tensor, reward: Tensor) -> Tensor:
        """Gives the memory `[B, ...]` after a pull, from arm `[B]`, int64, and reward `[B]`."""


class Stationary(RestlessPolicy):
    """A rule for two independent arms that do not drift; it remembers all pulls alike.

    Args:
        make_rule: builds the rule, when it first plays.
    """

    def __init__(self, make_rule: Callable[[], BanditPolicy]) -> None:
        self._make_rule = make_rule

    @cached_property
    def _rule(self) -> BanditPolicy:
        return self._make_rule()

    def start(self, like: Tensor) -> Tensor:
        """No successes and no failures; see `RestlessPolicy.start`."""
        return like.new_zeros(len(like), 2, 2)

    def choose(self, memory: Tensor, pull: int, generator: torch.Generator) -> Tensor:
        """Picks as the rule does; see `RestlessPolicy.choose`."""
        return self._rule.choose(memory[:, 0], memory[:, 1], pull, generator)

    def learn(self, memory: Tensor, arm: Tensor, reward: Tensor) -> Tensor:
        """Counts; see `RestlessPolicy.learn`."""
        outcome = torch.stack((reward, 1 - reward), 1).unsqueeze(2)
        pulled = torch.stack((arm == 0, arm == 1), 1).unsqueeze(1)
        return memory + outcome * pulled


class DriftFilter(RestlessPolicy):
    """Knows the law of the drift, and pulls the arm of the higher mean under its belief.

    The belief is a Bayesian filter over p and the task's volatility, which it is not told; p lies
    on a grid. What a pull teaches does not depend on the arm that is pulled, for a failure of one
    speaks for the other: nothing is to be gained by exploring, and to look at the next pull alone
    is optimal. So it is the Bayes optimum of this family, but for the grid.

    Args:
        law: the law of the drift.
    """

    def __init__(self, law: DriftLaw) -> None:
        self.law = law

    def start(self, like: Tensor) -> Tensor:
        """All volatilities and all cells alike, `[B, 2, G]`; see `RestlessPolicy.start`."""
        return like.new_full((len(like), 2, NUM_CELLS), 1 / (2 * NUM_CELLS))

    def choose(self, memory: Tensor, pull: int, generator: torch.Generator) -> Tensor:
        """Picks the arm of the higher mean; see `RestlessPolicy.choose`."""
        mean = (memory.sum(1) * _cells(memory)).sum(1)
        return (mean < 0.5).long()

    def learn(self, memory: Tensor, arm: Tensor, reward: Tensor) -> Tensor:
        """Weighs the cells by the reward, and lets them drift; see `RestlessPolicy.learn`."""
        speaks_for_first = ((arm == 0) == (reward > 0.5)).view(-1, 1, 1)
        cells = _cells(memory)
        weighed = memory * torch.where(speaks_for_first, cells, 1 - cells)
        weighed = weighed / weighed.sum((1, 2), keepdim=True)
        return torch.einsum("bvg,vgh->bvh", weighed, self._transitions.to(memory))

    @cached_property
    def _transitions(self) -> Tensor:
        """From cell to cell in one pull, for each volatility, `[2, G, G]`."""
        volatilities = (self.law.low_volatility, self.law.high_volatility)
        return torch.stack([drift_matrix(one, NUM_CELLS) for one in volatilities])


def drift_matrix(volatility: float, num_cells: int) -> Tensor:
    """Gives the probabilities with which the middle of a cell drifts into each cell.

    Args:
        volatility: standard deviation of the drift.
        num_cells: G, cells of equal width in [0, 1].

    Returns:
        `[G, G]`, float64, on the CPU; rows sum to 1.
    """
    if volatility == 0:
        return torch.eye(num_cells, dtype=torch.float64, device="cpu")
    edges = torch.linspace(0, 1, num_cells + 1, dtype=torch.float64, device="cpu")
    middles = (edges[:-1] + edges[1:]) / 2
    matrix = torch.zeros(num_cells, num_cells, dtype=torch.float64, device="cpu")
    # What the walk reaches beyond 0 and 1 is folded back, over and over.
    for period in range(-3, 4):
        for images in (2 * period + edges, 2 * period - edges):
            below = torch.special.ndtr((images - middles[:, None]) / volatility)
            matrix += below.diff(dim=1).abs()
    return matrix / matrix.sum(1, keepdim=True)


def _cells(like: Tensor) -> Tensor:
    """The middles of the filter's cells, `[G]`."""
    return (torch.arange(NUM_CELLS, device=like.device, dtype=like.dtype) + 0.5) / NUM_CELLS


def restless_bandit_oracles(law: DriftLaw, num_pulls: int) -> dict[str, Oracle]:
    """Gives the players of restless bandits.

    Those called stationary believe in two independent arms with the prior Beta(1, 1) that do not
    drift, as in published comparisons; the constant of UCB1 is tuned on such arms.

    Args:
        law: the law of the drift.
        num_pulls: length of a trial, in pulls.

    Returns:
        The players by name; the last one, "drift_filter", is the reference.
    """
    trials = BanditTrials(num_pulls, num_arms=2)

    def ucb1() -> BanditPolicy:
        rule = FAMILIES["ucb1"].build(tuned_constant("ucb1", trials))
        assert isinstance(rule, BanditPolicy)
        return rule

    return {
        "random": Stationary(Random),
        "thompson_stationary": Stationary(ThompsonSampling),
        "ucb1_stationary": Stationary(ucb1),
        "drift_filter": DriftFilter(law),
    }
