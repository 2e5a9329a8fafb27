"""Two arms with drifting probabilities p and 1 - p (arXiv 1611.05763).

p starts uniform in [0, 1] and follows a Gaussian random walk that is reflected at 0 and 1, so that
it stays uniform. The volatility, the walk's standard deviation per pull, is low or high.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.env import BernoulliArms
from rl2_lightning.families.bandits.policies import ThompsonSampling
from rl2_lightning.families.bernoulli_bandit import BanditTrials
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.tuning import TunedPlayer
from rl2_lightning.inputs import Inputs, Observation
from rl2_lightning.settings import Settings, between

FIRST_ARM_PROBABILITY = "first_arm_probability"  # [B, 1], float32: at the first pull
VOLATILITY = "volatility"  # [B, 1], float32

NUM_CELLS = 128  # of the filter's grid over [0, 1]


@dataclass
class RestlessBanditSettings(Settings):
    """Settings of the family.

    Attributes:
        low_volatility: standard deviation of the drift per pull, in half of the tasks.
        high_volatility: the same in the other half.
    """

    low_volatility: float = between(0, 1, default=0.02)
    high_volatility: float = between(0, 1, default=0.1)

    def check(self) -> None:
        """Check that the low volatility is not above the high one."""
        if self.low_volatility > self.high_volatility:
            raise UserError(
                f"env.low_volatility={self.low_volatility} is above "
                f"env.high_volatility={self.high_volatility}: swap their values"
            )


class RestlessBandit(BernoulliArms):
    """Two arms that pay 1 with p and 1 - p, where p drifts after each pull; an episode is one pull.

    p starts at the task's value, and drifts across episodes until a task is set again. The drift is
    drawn from the environment's generator. The observation, `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        device: where they are played.
        **settings: fields of `RestlessBanditSettings`.
    """

    Settings = RestlessBanditSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(RestlessBanditSettings, settings)
        super().__init__(num_tasks, 2, device)
        self._probability = torch.zeros(num_tasks, 1, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the initial p and the volatility, each `[num_tasks, 1]`."""
        shape = (2, num_tasks, 1)
        start, side = torch.rand(shape, generator=self.generator, device=self.device)
        low, high = self.settings.low_volatility, self.settings.high_volatility
        volatility = torch.where(side < 0.5, low, high)
        return TensorDict(
            {FIRST_ARM_PROBABILITY: start, VOLATILITY: volatility}, [num_tasks], self.device
        )

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Set new tasks in some rows, and reset p there; see `TaskEnv.set_tasks`."""
        super().set_tasks(tasks, rows)
        start = self.tasks[FIRST_ARM_PROBABILITY]
        self._probability = torch.where(rows, start, self._probability)

    def pull(self, action: Tensor, playing: Tensor) -> Tensor:
        """Pay 1 or nothing, and then let p drift."""
        reward = super().pull(action, playing)
        drifted = drift(self._probability, self.tasks[VOLATILITY], self.generator)
        self._probability = torch.where(playing, drifted, self._probability)
        return reward

    def expected_reward(self, action: Tensor) -> Tensor:
        """The current probabilities of the arms, `[B, 1]`, float32."""
        return torch.where(action.unsqueeze(1) == 0, self._probability, 1 - self._probability)

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """Players that assume stationary arms, and one that knows the law of the drift.

        Those called stationary assume two independent arms with the prior Beta(1, 1) that do not
        drift, as in published comparisons; the constant of UCB1 is tuned on such arms. The last
        one, "drift_filter", is the reference.
        """
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "thompson_stationary": ThompsonSampling(2),
            "ucb1_stationary": TunedPlayer("ucb1", BanditTrials(num_episodes, num_arms=2)),
            "drift_filter": DriftFilter(
                self.settings.low_volatility, self.settings.high_volatility
            ),
        }


class DriftFilter(Player):
    """Knows the law of the drift, and pulls the arm of the higher mean under its belief.

    The belief is a Bayesian filter over p, on a grid, and the task's unknown volatility. Both arms
    are equally informative, because a failure of one is evidence for the other: there is nothing to
    gain from exploring, and maximising the next pull's mean is optimal. So, up to the grid, it is
    the Bayes optimum of this family.

    Args:
        *volatilities: the V volatilities, with equal probabilities.
    """

    def __init__(self, *volatilities: float) -> None:
        self.volatilities = volatilities

    def start(self, tasks: TensorDictBase) -> Tensor:
        """A uniform belief over volatilities and cells, `[B, V, G]`, float32."""
        shape = (*tasks.batch_size, len(self.volatilities), NUM_CELLS)
        return torch.full(shape, 1 / (shape[1] * NUM_CELLS), device=tasks.device)

    def choose(
        self, memory: Tensor, observation: Observation, generator: torch.Generator
    ) -> Tensor:
        """Pick the arm of the higher mean."""
        mean = (memory.sum(1) * _cells(memory)).sum(1)
        return (mean < 0.5).long()

    def learn(self, memory: Tensor, observation: Observation, inputs: Inputs) -> Tensor:
        """Weight the cells by the reward's likelihood, and apply the drift."""
        pulled_first = inputs.previous_action == 0
        rewarded = inputs.previous_reward.squeeze(1) > 0.5
        cells = _cells(memory)
        speaks_for_first = (pulled_first == rewarded).view(-1, 1, 1)
        weighed = memory * torch.where(speaks_for_first, cells, 1 - cells)
        weighed = weighed / weighed.sum((1, 2), keepdim=True)
        return torch.einsum("bvg,vgh->bvh", weighed, self._transitions.to(memory))

    @cached_property
    def _transitions(self) -> Tensor:
        """The transitions between cells in one pull, for each volatility, `[V, G, G]`."""
        return torch.stack([drift_matrix(one, NUM_CELLS) for one in self.volatilities])


def drift(probability: Tensor, volatility: Tensor, generator: torch.Generator) -> Tensor:
    """Let the first arm's probability drift for one pull.

    Args:
        probability: `[B, 1]`, float32.
        volatility: `[B, 1]`, float32.
        generator: source of randomness, on the device of the probabilities.

    Returns:
        `[B, 1]`, float32, in [0, 1].
    """
    noise = torch.randn(probability.shape, generator=generator, device=probability.device)
    # Reflected at 0 and 1, any number of times: reflection has the period 2.
    moved = (probability + volatility * noise).remainder(2)
    return torch.minimum(moved, 2 - moved)


def drift_matrix(volatility: float, num_cells: int) -> Tensor:
    """Return the probabilities with which the middle of a cell drifts into each cell.

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
    # Fold back the probability beyond 0 and 1, for several reflections.
    for period in range(-3, 4):
        for images in (2 * period + edges, 2 * period - edges):
            below = torch.special.ndtr((images - middles[:, None]) / volatility)
            matrix += below.diff(dim=1).abs()
    return matrix / matrix.sum(1, keepdim=True)


def _cells(like: Tensor) -> Tensor:
    """The middles of the filter's cells, `[G]`."""
    return (torch.arange(NUM_CELLS, device=like.device, dtype=like.dtype) + 0.5) / NUM_CELLS
