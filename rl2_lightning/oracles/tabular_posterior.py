"""What a player of tabular MDPs believes after what it has seen."""

from typing import NamedTuple

import torch
from torch import Tensor

from rl2_lightning.oracles.dirichlet import sample_dirichlet
from rl2_lightning.oracles.tabular_mdp import Episode


class Model(NamedTuple):
    """Tabular MDPs, as known, expected or sampled.

    Attributes:
        mean_rewards: `[..., S, A]`, float32.
        transition_probabilities: `[..., S, A, S]`, float32.
    """

    mean_rewards: Tensor
    transition_probabilities: Tensor


class Prior(NamedTuple):
    """The belief before anything is seen, the same for each state and action.

    The mean reward is normal and the transition probabilities are Dirichlet. The defaults are the
    law that the tasks are drawn from (arXiv 1611.02779, section 3.2).

    Attributes:
        mean_reward: expected mean reward.
        reward_precision: observations of a reward that the prior is worth.
        concentration: observations of a transition to each state that the prior is worth.
    """

    mean_reward: float = 1.0
    reward_precision: float = 1.0
    concentration: float = 1.0


class Posterior:
    """The belief about B tasks: conjugate to rewards of variance 1 and to transitions.

    Args:
        prior: the belief that it starts from.
        mean_rewards: a tensor whose shape `[B, S, A]`, dtype and device it takes, not its values.

    Attributes:
        visits: rewards seen of each state and action, `[B, S, A]`, float32.
        transitions: transitions seen, `[B, S, A, S]`, float32. They are fewer than the visits,
            for where the last step of an episode leads is not seen.
    """

    def __init__(self, prior: Prior, mean_rewards: Tensor) -> None:
        self.prior = prior
        self.visits = torch.zeros_like(mean_rewards)
        self.transitions = self.visits.unsqueeze(-1).repeat(1, 1, 1, mean_rewards.shape[1])
        self._reward_sums = torch.zeros_like(mean_rewards)
        self._rows = torch.arange(len(mean_rewards), device=mean_rewards.device)

    def observe(self, episode: Episode) -> None:
        """Takes up an episode of every task."""
        following = episode.states[1:]
        for step, (state, action, reward) in enumerate(zip(*episode, strict=True)):
            place = (self._rows, state, action)
            self.visits[place] += 1
            self._reward_sums[place] += reward
            if step < len(following):
                self.transitions[(*place, following[step])] += 1

    @property
    def reward_precision(self) -> Tensor:
        """Precision of the mean reward, in observations, `[B, S, A]`, float32."""
        return self.prior.reward_precision + self.visits

    @property
    def concentration(self) -> Tensor:
        """Parameters of the Dirichlet distribution of the transitions, `[B, S, A, S]`, float32."""
        return self.prior.concentration + self.transitions

    @property
    def mean_rewards(self) -> Tensor:
        """Expected mean reward, `[B, S, A]`, float32."""
        prior_sum = self.prior.mean_reward * self.prior.reward_precision
        return (prior_sum + self._reward_sums) / self.reward_precision

    def expected_model(self) -> Model:
        """Gives the means of rewards and transition probabilities."""
        concentration = self.concentration
        return Model(self.mean_rewards, concentration / concentration.sum(-1, keepdim=True))

    def sample_model(self, generator: torch.Generator) -> Model:
        """Draws an MDP for each task; the prior's concentration must be a whole number.

        Args:
            generator: source of randomness, on the device of the tasks.

        Returns:
            One sample for each task.
        """
        noise = torch.randn(self.visits.shape, generator=generator, device=self.visits.device)
        return Model(
            self.mean_rewards + noise * self.reward_precision.rsqrt(),
            sample_dirichlet(self.concentration, generator),
        )
