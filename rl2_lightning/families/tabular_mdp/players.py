"""Players of tabular MDPs that plan before each episode.

With the prior mean 1 they have the true prior. The published players (arXiv 1611.02779, Table 2;
authors' code) assumed a mean of 0, the greedy ones and UCRL2 with a very weak prior.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.player import Player
from rl2_lightning.families.tabular_mdp.posterior import Model, Posterior, Prior
from rl2_lightning.families.tabular_mdp.value_iteration import (
    extended_value_iteration,
    value_iteration,
)
from rl2_lightning.inputs import Inputs

MEAN_REWARDS = "mean_rewards"  # [B, S, A], float32
TRANSITION_PROBABILITIES = "transition_probabilities"  # [B, S, A, S], float32
FAILURE_PROBABILITY = 0.05  # delta of UCRL2: probability that its confidence sets miss the MDP


class Sizes(NamedTuple):
    """The sizes of the MDPs of a family.

    Attributes:
        num_states: S.
        num_actions: A.
        horizon: H, the length of an episode, in env steps.
    """

    num_states: int
    num_actions: int
    horizon: int


@dataclass
class Trial:
    """A player's memory of a trial of B tasks.

    Attributes:
        posterior: the posterior of the tasks.
        episode: index of the current episode.
        step: index of its next step.
        action_values: the plan for it, `[H, B, S, A]`, float32.
        state: state in which the last action was taken, `[B]`, int64.
    """

    posterior: Posterior
    episode: int = 0
    step: int = 0
    action_values: Tensor = field(init=False)
    state: Tensor = field(init=False)


class TabularPlayer(Player):
    """A rule that computes action values from the posterior, and uses them for an episode.

    Args:
        sizes: sizes of the family.
        prior: the prior.

    Attributes:
        epsilon: probability of a uniformly random action.
    """

    epsilon: float = 0.0

    def __init__(self, sizes: Sizes, prior: Prior) -> None:
        self.sizes = sizes
        self.prior = prior

    def start(self, tasks: TensorDictBase) -> Trial:
        """A memory with the prior."""
        num_states, num_actions, _ = self.sizes
        posterior = Posterior(self.prior, (len(tasks), num_states, num_actions), tasks.device)
        return Trial(posterior)

    def choose(self, memory: Trial, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Take the best action of the plan, which is made before an episode's first step."""
        if memory.step == 0:
            memory.action_values = self.plan(memory.posterior, memory.episode, generator)
        memory.state = observation.argmax(-1)
        values = memory.action_values[memory.step]
        return best_actions(values, memory.state, generator, self.epsilon)

    def learn(self, memory: Trial, observation: Tensor, inputs: Inputs) -> Trial:
        """Update the posterior with a step; the last transition of an episode is not observed."""
        assert isinstance(inputs.observation, Tensor)
        memory.step += 1
        goes_on = memory.step < self.sizes.horizon
        memory.posterior.observe(
            memory.state,
            inputs.previous_action,
            inputs.previous_reward.squeeze(1),
            inputs.observation.argmax(-1) if goes_on else None,
        )
        if not goes_on:
            memory.step, memory.episode = 0, memory.episode + 1
        return memory

    @abstractmethod
    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Compute the action values for the next episode.

        Args:
            posterior: posterior of each task so far.
            episode: index of the episode in its trial, from 0.
            generator: source of randomness, on the device of the tasks.

        Returns:
            Value of each action in each state at each step, `[H, B, S, A]`, float32.
        """


class EpsilonGreedy(TabularPlayer):
    """Explores uniformly with probability epsilon, and is else greedy in the expected MDP.

    Args:
        sizes: sizes of the family.
        prior: the prior.
        epsilon: probability of a uniformly random action; 0 is greedy play.
    """

    def __init__(self, sizes: Sizes, prior: Prior, epsilon: float = 0.0) -> None:
        super().__init__(sizes, prior)
        self.epsilon = epsilon

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Compute the action values in the expected MDP; see `TabularPlayer.plan`."""
        return value_iteration(posterior.expected_model(), self.sizes.horizon)


class PosteriorSampling(TabularPlayer):
    """Acts optimally for a sampled MDP in each episode, PSRL (Strens 2000, Osband et al. 2013).

    With several samples it is optimistic, OPSRL: the value of an action is its maximum over them.

    Args:
        sizes: sizes of the family.
        prior: the prior; its concentration is a whole number.
        num_samples: MDPs drawn before each episode.
    """

    def __init__(self, sizes: Sizes, prior: Prior, num_samples: float = 1) -> None:
        super().__init__(sizes, prior)
        self.num_samples = int(num_samples)

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Compute the action values in sampled MDPs; see `TabularPlayer.plan`."""
        horizon = self.sizes.horizon
        action_values = value_iteration(posterior.sample_model(generator), horizon)
        # One after the other, to bound memory; it takes no longer.
        for _ in range(self.num_samples - 1):
            sample = value_iteration(posterior.sample_model(generator), horizon)
            action_values = torch.maximum(action_values, sample)
        return action_values


class UCRL2(TabularPlayer):
    """Acts for the best MDP within confidence sets around the expected one (Jaksch et al. 2010).

    The radii are scale * sqrt(4 ln(2 S A (t + 1) / delta) / n) for the mean reward and sqrt(S)
    times as much for the transitions, with n observations (at least 1) and episode t from 1. In
    the original, t counts env steps, and the player plans again when counts have doubled.

    Args:
        sizes: sizes of the family.
        prior: the prior.
        scale: factor of the radii.
    """

    def __init__(self, sizes: Sizes, prior: Prior, scale: float) -> None:
        super().__init__(sizes, prior)
        self.scale = scale

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Compute the action values in the most favourable MDP; see `TabularPlayer.plan`."""
        num_states, num_actions, horizon = self.sizes
        spread = 4 * math.log(2 * num_states * num_actions * (episode + 2) / FAILURE_PROBABILITY)
        transitions_seen = posterior.transitions.sum(0)
        reward_slack = self.scale * (spread / posterior.visits.clamp_min(1)).sqrt()
        transition_slack = self.scale * (num_states * spread / transitions_seen.clamp_min(1)).sqrt()
        rewards, transitions = posterior.expected_model()
        optimistic = Model(rewards + reward_slack, transitions)
        return extended_value_iteration(optimistic, transition_slack, horizon)


class BayesianExplorationBonus(TabularPlayer):
    """Adds a bonus for uncertainty to the expected MDP, BEB (Kolter and Ng, 2009).

    In the published form, a mean reward of precision p gets 1 / (p + 1), and each env step to go
    beta * H / (1 + c), where c is the sum of the transitions' concentrations and
    beta = 2 H^2 * scale.

    Args:
        sizes: sizes of the family.
        prior: the prior.
        scale: factor of the bonus for the transitions.
    """

    def __init__(self, sizes: Sizes, prior: Prior, scale: float) -> None:
        super().__init__(sizes, prior)
        self.scale = scale

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Compute the action values with bonuses; see `TabularPlayer.plan`."""
        horizon = self.sizes.horizon
        beta = 2 * horizon**2 * self.scale
        rewards, transitions = posterior.expected_model()
        return value_iteration(
            Model(rewards + 1 / (posterior.reward_precision + 1), transitions),
            horizon,
            beta * horizon / (1 + posterior.concentration.sum(0)),
        )


class Optimal(Player):
    """Knows the MDP, and plays the best policy for it: no learner earns more on average.

    Args:
        horizon: H, the length of an episode, in env steps.
    """

    privileged = True

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def start(self, tasks: TensorDictBase) -> tuple[Tensor, int]:
        """Plan once: the value of each action, `[H, B, S, A]`, and the index of the next step."""
        transitions = tasks[TRANSITION_PROBABILITIES].movedim(-1, 0).contiguous()
        return value_iteration(Model(tasks[MEAN_REWARDS], transitions), self.horizon), 0

    def choose(
        self, memory: tuple[Tensor, int], observation: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Take the best action."""
        action_values, step = memory
        return best_actions(action_values[step], observation.argmax(-1), generator)

    def learn(
        self, memory: tuple[Tensor, int], observation: Tensor, inputs: Inputs
    ) -> tuple[Tensor, int]:
        """Count the steps of an episode."""
        action_values, step = memory
        return action_values, (step + 1) % self.horizon


def best_actions(
    action_values: Tensor, state: Tensor, generator: torch.Generator, epsilon: float = 0.0
) -> Tensor:
    """Choose the actions of the highest value.

    Ties are broken uniformly at random, like in the published players: all untried actions have
    the same value.

    Args:
        action_values: value of each state and action, `[B, S, A]`, float32.
        state: `[B]`, int64.
        generator: source of randomness, on the same device.
        epsilon: probability of a uniformly random action instead.

    Returns:
        `[B]`, int64.
    """
    num_tasks, _, num_actions = action_values.shape
    device = action_values.device
    values = action_values[torch.arange(num_tasks, device=device), state]
    is_best = values == values.amax(-1, keepdim=True)
    if epsilon > 0:
        explores = torch.rand(num_tasks, 1, generator=generator, device=device) < epsilon
        is_best = is_best | explores
    order = torch.rand(num_tasks, num_actions, generator=generator, device=device)
    return torch.where(is_best, order, -1).argmax(-1)
