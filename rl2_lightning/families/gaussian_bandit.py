"""Bandits with normal rewards of known noise, and players that know the distribution.

Means have the prior Normal(0, 1), and the noise is known, so that posteriors are normal. After n
pulls with the sum s, the posterior variance is v = 1 / (1 + n / noise^2), and the posterior mean is
v s / noise^2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from rl2_lightning.families.bandits.env import BanditEnv
from rl2_lightning.families.bandits.gaussian_gittins import ExplorationBonuses
from rl2_lightning.families.bandits.policies import BanditPlayer, Tally, best_arm
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.inputs import Observation
from rl2_lightning.settings import Settings, between

ARM_MEANS = "arm_means"  # [B, K], float32


@dataclass
class GaussianBanditSettings(Settings):
    """Settings of the family.

    Attributes:
        num_arms: K.
        noise: standard deviation of a reward around its arm's mean.
    """

    num_arms: int = between(2, default=5)
    noise: float = between(0.01, 1e6, default=1.0)


class GaussianBandit(BanditEnv):
    """Arms with unknown means ~ Normal(0, 1) and normal rewards; an episode is one pull.

    The observation, `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        device: where they are played.
        **settings: fields of `GaussianBanditSettings`.
    """

    Settings = GaussianBanditSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(GaussianBanditSettings, settings)
        super().__init__(num_tasks, self.settings.num_arms, device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the arms' means, `[num_tasks, K]`."""
        shape = (num_tasks, self.settings.num_arms)
        means = torch.randn(shape, generator=self.generator, device=self.device)
        return TensorDict({ARM_MEANS: means}, [num_tasks], self.device)

    def pull(self, action: Tensor, playing: Tensor) -> Tensor:
        """Draw rewards around the means of the arms."""
        means = self.expected_reward(action)
        draw = torch.randn(means.shape, generator=self.generator, device=self.device)
        return means + self.settings.noise * draw

    def expected_reward(self, action: Tensor) -> Tensor:
        """The means of the arms that are pulled, `[B, 1]`, float32."""
        return self.tasks[ARM_MEANS].gather(1, action.unsqueeze(1))

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """Players that know the prior of the means and the noise; the last one is "gittins"."""
        num_arms, noise = self.settings.num_arms, self.settings.noise
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "greedy": GreedyGaussian(num_arms, noise),
            "thompson": ThompsonSamplingGaussian(num_arms, noise),
            "bayes_ucb": BayesUCB(num_arms, noise),
            "gittins": GittinsGaussian(num_arms, noise, num_episodes),
        }


class GaussianPlayer(BanditPlayer):
    """A rule that picks an arm from the normal posteriors of the arms' means.

    Args:
        num_arms: K, the number of arms.
        noise: standard deviation of a reward around its arm's mean.
    """

    def __init__(self, num_arms: int, noise: float) -> None:
        super().__init__(num_arms)
        self.noise = noise

    def belief(self, tally: Tally) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of the posterior of each arm's mean.

        Returns:
            Two tensors `[B, K]`, float32.
        """
        variance = 1 / (1 + tally.pulls / self.noise**2)
        return variance * tally.totals / self.noise**2, variance.sqrt()


class GreedyGaussian(GaussianPlayer):
    """Pulls the arm of the highest posterior mean."""

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick the arm of the highest mean."""
        return best_arm(self.belief(memory)[0])


class ThompsonSamplingGaussian(GaussianPlayer):
    """Pulls the arm that is best in one joint sample of the posterior (Thompson, 1933)."""

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick the arm of the highest sample."""
        mean, deviation = self.belief(memory)
        draw = torch.randn(mean.shape, generator=generator, device=mean.device)
        return best_arm(mean + deviation * draw)


class BayesUCB(GaussianPlayer):
    """Pulls the arm of the highest quantile 1 - 1/t of the posterior (Kaufmann et al., 2012).

    Pulls t count from 1. This is the form without a factor (ln T)^c that its authors recommend;
    nothing is tuned.
    """

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick the arm of the highest quantile."""
        mean, deviation = self.belief(memory)
        # At the first pull all arms are equal, and the quantile would be infinite.
        level = mean.new_tensor(1 - 1 / max(memory.pull + 1, 2))
        return best_arm(mean + deviation * torch.special.ndtri(level))


class GittinsGaussian(GaussianPlayer):
    """Pulls the arm of the highest finite-horizon Gittins index (Gittins, 1979).

    It is close to the optimum but not optimal: the rule is optimal only for an infinite, discounted
    horizon.

    Args:
        num_arms: K, the number of arms.
        noise: standard deviation of a reward around its arm's mean.
        num_pulls: length of a trial, in pulls.
    """

    def __init__(self, num_arms: int, noise: float, num_pulls: int) -> None:
        super().__init__(num_arms, noise)
        self._bonuses = ExplorationBonuses(num_pulls, noise)

    def prepare(self) -> None:
        """Compute the indices, or read them from the cache."""
        _ = self._bonuses.table

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick the arm of the highest index."""
        return best_arm(self.belief(memory)[0] + self._bonuses.before_next_pull(memory))
