"""Players of tabular MDPs that plan anew before each episode.

Under the prior mean 1 they believe what is true. The published players (arXiv 1611.02779,
Table 2; authors' code) assumed 0, and the greedy ones and UCRL2 next to no prior at all.
"""

import math
from abc import abstractmethod

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow
from rl2_lightning.oracles.tabular_mdp import play_episode
from rl2_lightning.oracles.tabular_posterior import Model, Posterior, Prior
from rl2_lightning.oracles.value_iteration import extended_value_iteration, value_iteration

FAILURE_PROBABILITY = 0.05  # delta of UCRL2: that its confidence sets miss the MDP


class TabularPolicy(Oracle):
    """A rule that values actions from what it has seen, and keeps to that for an episode.

    Args:
        horizon: H, the length of an episode, in env steps.
        prior: the belief that it starts from.

    Attributes:
        epsilon: probability of a uniformly random action.
    """

    epsilon: float = 0.0

    def __init__(self, horizon: int, prior: Prior) -> None:
        self.horizon = horizon
        self.prior = prior

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every MDP, all at once on the device of the tasks.

        Args:
            tasks: hold the mean rewards, `[B, S, A]`, and the transition probabilities,
                `[B, S, A, S]`, float32; batch size `[B]`.
            num_episodes: length of each trial, in episodes.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            Return of every episode, `[B, num_episodes]`, float32, undiscounted.
        """
        mean_rewards: Tensor = tasks[keys.MEAN_REWARDS]
        posterior = Posterior(self.prior, mean_rewards)
        returns = mean_rewards.new_empty(num_episodes, len(mean_rewards))
        for number in track_slow(range(num_episodes), f"playing {type(self).__name__}"):
            action_values = self.plan(posterior, number, generator)
            episode = play_episode(tasks, action_values, generator, self.epsilon)
            posterior.observe(episode)
            returns[number] = episode.rewards.sum(0)
        return returns.T.contiguous()

    @abstractmethod
    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Values the actions for the next episode.

        Args:
            posterior: what was seen of each task so far.
            episode: index of the episode in its trial, from 0.
            generator: source of randomness, on the device of the tasks.

        Returns:
            Value of each action in each state at each step, `[H, B, S, A]`, float32.
        """


class RandomTabular(TabularPolicy):
    """Takes any action with the same probability.

    Args:
        horizon: H, the length of an episode, in env steps.
    """

    def __init__(self, horizon: int) -> None:
        super().__init__(horizon, Prior())

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Values all actions alike; see `TabularPolicy.plan`."""
        return torch.zeros_like(posterior.visits).expand(self.horizon, -1, -1, -1)


class EpsilonGreedyTabular(TabularPolicy):
    """Explores uniformly with probability epsilon, and else trusts the expected MDP.

    Args:
        horizon: H, the length of an episode, in env steps.
        prior: the belief that it starts from.
        epsilon: probability of a uniformly random action; 0 is greedy play.
    """

    def __init__(self, horizon: int, prior: Prior, epsilon: float = 0.0) -> None:
        super().__init__(horizon, prior)
        self.epsilon = epsilon

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Values the actions in the expected MDP; see `TabularPolicy.plan`."""
        return value_iteration(posterior.expected_model(), self.horizon)


class PosteriorSampling(TabularPolicy):
    """Acts for an episode as is best in sampled MDPs, PSRL (Strens 2000, Osband et al. 2013).

    With several samples it is optimistic, OPSRL: each action is worth its highest value among
    them.

    Args:
        horizon: H, the length of an episode, in env steps.
        prior: the belief that it starts from; its concentration is a whole number.
        num_samples: MDPs drawn before each episode.
    """

    def __init__(self, horizon: int, prior: Prior, num_samples: int = 1) -> None:
        super().__init__(horizon, prior)
        self.num_samples = num_samples

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Values the actions in sampled MDPs; see `TabularPolicy.plan`."""
        action_values = value_iteration(posterior.sample_model(generator), self.horizon)
        # One after the other, so that memory does not grow with them; it takes no longer.
        for _ in range(self.num_samples - 1):
            sample = value_iteration(posterior.sample_model(generator), self.horizon)
            action_values = torch.maximum(action_values, sample)
        return action_values


class UCRL2(TabularPolicy):
    """Acts for the best MDP within confidence sets around the expected one (Jaksch et al. 2010).

    The radii are scale * sqrt(4 ln(2 S A (t + 1) / delta) / n) for the mean reward and sqrt(S)
    times as much for the transitions, with n observations (1 where there are none) and episode t
    from 1. In the original t counts env steps, and the player plans anew where counts have doubled.

    Args:
        horizon: H, the length of an episode, in env steps.
        prior: the belief that it starts from.
        scale: factor of the radii.
    """

    def __init__(self, horizon: int, prior: Prior, scale: float) -> None:
        super().__init__(horizon, prior)
        self.scale = scale

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Values the actions in the most favourable MDP; see `TabularPolicy.plan`."""
        _, num_states, num_actions = posterior.visits.shape
        spread = 4 * math.log(2 * num_states * num_actions * (episode + 2) / FAILURE_PROBABILITY)
        transitions_seen = posterior.transitions.sum(-1)
        reward_slack = self.scale * (spread / posterior.visits.clamp_min(1)).sqrt()
        transition_slack = self.scale * (num_states * spread / transitions_seen.clamp_min(1)).sqrt()
        rewards, transitions = posterior.expected_model()
        optimistic = Model(rewards + reward_slack, transitions)
        return extended_value_iteration(optimistic, transition_slack, self.horizon)


class BayesianExplorationBonus(TabularPolicy):
    """Adds a bonus for what is little known to the expected MDP, BEB (Kolter and Ng, 2009).

    The published form: the mean reward of precision p gets 1 / (p + 1), and each env step to go
    beta * H / (1 + c), where c is the sum of the transitions' concentrations and
    beta = 2 H^2 * scale.

    Args:
        horizon: H, the length of an episode, in env steps.
        prior: the belief that it starts from.
        scale: factor of the bonus for the transitions.
    """

    def __init__(self, horizon: int, prior: Prior, scale: float) -> None:
        super().__init__(horizon, prior)
        self.scale = scale

    def plan(self, posterior: Posterior, episode: int, generator: torch.Generator) -> Tensor:
        """Values the actions with their bonuses; see `TabularPolicy.plan`."""
        beta = 2 * self.horizon**2 * self.scale
        rewards, transitions = posterior.expected_model()
        return value_iteration(
            Model(rewards + 1 / (posterior.reward_precision + 1), transitions),
            self.horizon,
            beta * self.horizon / (1 + posterior.concentration.sum(-1)),
        )


class OptimalTabular(Oracle):
    """Knows the MDP, and plays the best policy for it: no learner earns more on average.

    Args:
        horizon: H, the length of an episode, in env steps.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every MDP; see `TabularPolicy.play`."""
        model = Model(tasks[keys.MEAN_REWARDS], tasks[keys.TRANSITION_PROBABILITIES])
        action_values = value_iteration(model, self.horizon)
        episodes = track_slow(range(num_episodes), f"playing {type(self).__name__}")
        returns = [play_episode(tasks, action_values, generator).rewards.sum(0) for _ in episodes]
        return torch.stack(returns, 1)
