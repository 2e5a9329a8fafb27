"""Arms with normal rewards: how they are drawn, how they pay, and the players that know it.

Means have the prior Normal(0, 1), and the noise is known, so that beliefs stay normal. After n
pulls with the sum s the variance is 1 / (1 + n / noise^2), and the mean that times s / noise^2.
"""

from abc import abstractmethod

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.gaussian_gittins import ExplorationBonuses
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow


def sample_arm_means(num_tasks: int, num_arms: int, generator: torch.Generator) -> Tensor:
    """Draws the means of arms ~ Normal(0, 1), `[num_tasks, num_arms]`, float32."""
    return torch.randn(num_tasks, num_arms, generator=generator, device=generator.device)


def draw_rewards(means: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Draws rewards around their means.

    Args:
        means: any shape, float32.
        noise: standard deviation.
        generator: source of randomness, on the same device.

    Returns:
        Same shape, float32.
    """
    return means + noise * torch.randn(means.shape, generator=generator, device=means.device)


class GaussianPolicy(Oracle):
    """A rule that picks an arm from the normal beliefs about the arms.

    Args:
        noise: standard deviation of a reward around its arm's mean.

    Attributes:
        horizon: the only trial length that the rule is made for, in pulls; None for any.
    """

    horizon: int | None = None

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every bandit, all at once on the device of the tasks.

        Args:
            tasks: holds the arms' means, `[B, K]`, float32; batch size `[B]`.
            num_episodes: length of each trial, in pulls.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            Reward of every pull, `[B, num_episodes]`, float32.

        Raises:
            UserError: the rule is made for another number of pulls.
        """
        if self.horizon not in (None, num_episodes):
            raise UserError(
                f"num_episodes={num_episodes}: this {type(self).__name__} is made for trials of "
                f"{self.horizon} pulls; build one with num_pulls={num_episodes}"
            )
        means: Tensor = tasks[keys.ARM_MEANS]
        pulls, totals = torch.zeros_like(means), torch.zeros_like(means)
        rewards = means.new_empty(num_episodes, len(means))
        for pull in track_slow(range(num_episodes), f"playing {type(self).__name__}"):
            arm = self.choose(pulls, totals, pull, generator).unsqueeze(1)
            reward = draw_rewards(means.gather(1, arm), self.noise, generator)
            pulls.scatter_add_(1, arm, torch.ones_like(reward))
            totals.scatter_add_(1, arm, reward)
            rewards[pull] = reward.squeeze(1)
        return rewards.T.contiguous()

    def belief(self, pulls: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        """Gives mean and standard deviation of the posterior of each arm's mean.

        Args:
            pulls: of each arm, `[B, K]`, float32.
            totals: sum of the rewards of each arm, `[B, K]`, float32.

        Returns:
            Two tensors `[B, K]`, float32.
        """
        variance = 1 / (1 + pulls / self.noise**2)
        return variance * totals / self.noise**2, variance.sqrt()

    @abstractmethod
    def choose(
        self, pulls: Tensor, totals: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks the next arm of every bandit; of equal ones the first.

        Args:
            pulls: of each arm so far, `[B, K]`, float32.
            totals: sum of the rewards of each arm so far, `[B, K]`, float32.
            pull: index of this pull in its trial, from 0.
            generator: source of randomness, on the device of the counts.

        Returns:
            Index of the arm, `[B]`, int64.
        """


class RandomGaussian(GaussianPolicy):
    """Pulls any arm with the same probability."""

    def choose(
        self, pulls: Tensor, totals: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks an arm uniformly; see `GaussianPolicy.choose`."""
        num_tasks, num_arms = pulls.shape
        return torch.randint(num_arms, (num_tasks,), generator=generator, device=pulls.device)


class GreedyGaussian(GaussianPolicy):
    """Pulls the arm of the highest posterior mean."""

    def choose(
        self, pulls: Tensor, totals: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks the arm that looks best; see `GaussianPolicy.choose`."""
        return self.belief(pulls, totals)[0].argmax(1)


class ThompsonSamplingGaussian(GaussianPolicy):
    """Pulls the arm that is best in one joint sample of the posterior (Thompson, 1933)."""

    def choose(
        self, pulls: Tensor, totals: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks the arm of the highest sample; see `GaussianPolicy.choose`."""
        mean, deviation = self.belief(pulls, totals)
        draw = torch.randn(mean.shape, generator=generator, device=mean.device)
        return (mean + deviation * draw).argmax(1)


class BayesUCB(GaussianPolicy):
    """Pulls the arm of the highest quantile 1 - 1/t of the posterior (Kaufmann et al., 2012).

    Pulls t count from 1. It is the form without a factor (ln T)^c, which its authors advise;
    nothing is tuned.
    """

    def choose(
        self, pulls: Tensor, totals: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks the arm of the highest quantile; see `GaussianPolicy.choose`."""
        mean, deviation = self.belief(pulls, totals)
        # At the first pull all arms are alike, and the quantile would be infinite.
        level = mean.new_tensor(1 - 1 / max(pull + 1, 2))
        return (mean + deviation * torch.special.ndtri(level)).argmax(1)


class GittinsGaussian(GaussianPolicy):
    """Pulls the arm of the highest finite-horizon Gittins index (Gittins, 1979).

    Near the optimum, not at it: the rule is optimal only for an infinite, discounted horizon.

    Args:
        noise: standard deviation of a reward around its arm's mean.
        num_pulls: length of a trial, in pulls.
    """

    def __init__(self, noise: float, num_pulls: int) -> None:
        super().__init__(noise)
        self.horizon: int = num_pulls
        self._bonuses = ExplorationBonuses(num_pulls, noise)

    def choose(
        self, pulls: Tensor, totals: Tensor, pull: int, generator: torch.Generator
    ) -> Tensor:
        """Picks the arm of the highest index; see `GaussianPolicy.choose`."""
        mean, _ = self.belief(pulls, totals)
        return (mean + self._bonuses.before(pull, pulls)).argmax(1)


def gaussian_bandit_oracles(noise: float, num_pulls: int) -> dict[str, Oracle]:
    """Gives the players of arms with normal rewards; all know the prior and the noise.

    Args:
        noise: standard deviation of a reward around its arm's mean.
        num_pulls: length of a trial, in pulls.

    Returns:
        The players by name; the last one, "gittins", is the reference.
    """
    return {
        "random": RandomGaussian(noise),
        "greedy": GreedyGaussian(noise),
        "thompson": ThompsonSamplingGaussian(noise),
        "bayes_ucb": BayesUCB(noise),
        "gittins": GittinsGaussian(noise, num_pulls),
    }
