"""Bernoulli bandits with a geometric horizon: a trial may end after any pull."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from rl2_lightning.families.bandits.env import ARM_PROBABILITIES, BernoulliArms
from rl2_lightning.families.bandits.gittins import GittinsIndex
from rl2_lightning.families.bandits.policies import Greedy, ThompsonSampling
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.settings import Settings, between


@dataclass
class GeometricBanditSettings(Settings):
    """Settings of the family.

    Attributes:
        num_arms: K.
        continuation: probability with which the episode goes on after a pull.
        horizon: length at which an episode is cut, in pulls.
    """

    num_arms: int = between(2, default=5)
    continuation: float = between(0, 1, default=0.95)
    horizon: int = between(1, 500, default=100)


class GeometricBandit(BernoulliArms):
    """Arms that pay 1 with an unknown probability p ~ U[0, 1]; the number of pulls is unknown.

    An episode is a sequence of pulls of the same arms. After each it ends with a fixed probability,
    so the number of pulls that are left never depends on how many there have been. The observation,
    `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        device: where they are played.
        **settings: fields of `GeometricBanditSettings`.
    """

    Settings = GeometricBanditSettings
    ends_early = True

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(GeometricBanditSettings, settings)
        super().__init__(num_tasks, self.settings.num_arms, device, self.settings.horizon)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the arms' probabilities, `[num_tasks, K]`."""
        shape = (num_tasks, self.settings.num_arms)
        probabilities = torch.rand(shape, generator=self.generator, device=self.device)
        return TensorDict({ARM_PROBABILITIES: probabilities}, [num_tasks], self.device)

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pull an arm of every bandit, and end some episodes."""
        observation, reward, _ = super().advance(action, playing)
        draw = torch.rand(self.num_tasks, 1, generator=self.generator, device=self.device)
        return observation, reward, draw >= self.settings.continuation

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """Players of Bernoulli bandits; for trials of one episode the Gittins index is the last.

        A pull that is played only with some probability counts like one that is discounted by it.
        With an infinite number of discounted pulls the index is the optimum (Gittins, 1979).
        """
        settings = self.settings
        players: dict[str, Player] = {
            "random": RandomPlayer(self.action_spec_unbatched),
            "greedy": Greedy(settings.num_arms),
            "thompson": ThompsonSampling(settings.num_arms),
        }
        if num_episodes == 1:
            players["gittins"] = GittinsIndex(
                settings.num_arms, settings.horizon, settings.continuation
            )
        return players
