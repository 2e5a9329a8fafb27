"""The posterior of tabular MDPs."""

from typing import NamedTuple

import torch
from torch import Tensor

from rl2_lightning.families.tabular_mdp.dirichlet import sample_dirichlet


class Model(NamedTuple):
    """Tabular MDPs: known, expected or sampled.

    Attributes:
        mean_rewards: `[B, S, A]`, float32.
        transitions: probabilities with the next state as first dimension, `[S, B, S, A]`, float32,
            so that sums over next states run over whole blocks of memory.
    """

    mean_rewards: Tensor
    transitions: Tensor


class Prior(NamedTuple):
    """The prior, the same for each state and action.

    The mean reward is normal and the transition probabilities are Dirichlet. The defaults are the
    distribution of the tasks (arXiv 1611.02779, section 3.2).

    Attributes:
        mean_reward: expected mean reward.
        reward_precision: weight of the prior of a mean reward, in observations.
        concentration: weight of the prior of a transition to each state, in observations.
    """

    mean_reward: float = 1.0
    reward_precision: float = 1.0
    concentration: float = 1.0


class Posterior:
    """The posterior of B tasks, with conjugate priors for rewards of variance 1 and transitions.

    Args:
        prior: the prior.
        shape: B, S and A.
        device: device of the tasks.

    Attributes:
        visits: number of times that each action was taken in each state, `[B, S, A]`, float32.
        transitions: number of times that this led to each state, the first dimension, `[S, B, S,
            A]`, float32: fewer than the visits, since the last transition of an episode is not
            observed.
    """

    def __init__(
        self, prior: Prior, shape: tuple[int, int, int], device: torch.device | None = None
    ) -> None:
        num_tasks, num_states, num_actions = shape
        self.prior = prior
        self.visits = torch.zeros(shape, device=device)
        self.transitions = torch.zeros(num_states, *shape, device=device)
        self._reward_sums = torch.zeros(shape, device=device)
        self._one = torch.ones(num_tasks, device=device)
        self._first_place = torch.arange(num_tasks, device=device) * num_states * num_actions

    def observe(
        self, state: Tensor, action: Tensor, reward: Tensor, following: Tensor | None
    ) -> None:
        """Add a step of every task.

        Args:
            state: state in which the action was taken, `[B]`, int64.
            action: `[B]`, int64.
            reward: `[B]`, float32.
            following: the next state, `[B]`, int64; None if it is not observed.
        """
        place = self._first_place + state * self.visits.shape[2] + action
        self.visits.view(-1).index_add_(0, place, self._one)
        self._reward_sums.view(-1).index_add_(0, place, reward)
        if following is not None:
            place = following * self.visits.numel() + place
            self.transitions.view(-1).index_add_(0, place, self._one)

    @property
    def reward_precision(self) -> Tensor:
        """Precision of the mean reward, in observations, `[B, S, A]`, float32."""
        return self.prior.reward_precision + self.visits

    @property
    def concentration(self) -> Tensor:
        """Parameters of the Dirichlet distribution of the transitions, `[S, B, S, A]`, float32."""
        return self.prior.concentration + self.transitions

    @property
    def mean_rewards(self) -> Tensor:
        """Expected mean reward, `[B, S, A]`, float32."""
        prior_sum = self.prior.mean_reward * self.prior.reward_precision
        return (prior_sum + self._reward_sums) / self.reward_precision

    def expected_model(self) -> Model:
        """Return the means of rewards and transition probabilities."""
        concentration = self.concentration
        return Model(self.mean_rewards, concentration.div_(concentration.sum(0)))

    def sample_model(self, generator: torch.Generator) -> Model:
        """Sample an MDP for each task; the prior's concentration must be a whole number.

        Args:
            generator: source of randomness, on the device of the tasks.

        Returns:
            One sample for each task.
        """
        noise = torch.randn(self.visits.shape, generator=generator, device=self.visits.device)
        return Model(
            self.mean_rewards + noise * self.reward_precision.rsqrt(),
            sample_dirichlet(self.concentration, generator, dim=0),
        )
