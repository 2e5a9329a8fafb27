"""Random tabular MDPs (arXiv 1611.02779, section 3.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical, OneHot

from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.tabular_mdp.dirichlet import sample_dirichlet
from rl2_lightning.families.tabular_mdp.players import (
    MEAN_REWARDS,
    TRANSITION_PROBABILITIES,
    UCRL2,
    BayesianExplorationBonus,
    EpsilonGreedy,
    Optimal,
    PosteriorSampling,
    Sizes,
)
from rl2_lightning.families.tabular_mdp.posterior import Prior
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.tuning import Tuned, TunedPlayer, TunedTrials
from rl2_lightning.settings import Settings, between

# The priors of the published players.
PRIOR_MEAN_0 = Prior(mean_reward=0)
GREEDY_PRIOR_MEAN_0 = Prior(mean_reward=0, reward_precision=1e-4, concentration=1e-4)
UCRL2_PRIOR_MEAN_0 = Prior(mean_reward=0, reward_precision=1e-4, concentration=1e-5)

# The grids of arXiv 1611.02779, section 3.
EPSILONS = [tenth / 10 for tenth in range(1, 11)]
NUM_SAMPLES = range(1, 21)
SCALES = np.geomspace(1e-4, 1, 21).tolist()


@dataclass
class TabularMDPSettings(Settings):
    """Settings of the family.

    Attributes:
        num_states: S; with 1 it is a bandit with normal rewards.
        num_actions: A.
        horizon: H, the length of an episode, in env steps.
    """

    num_states: int = between(1, default=10)
    num_actions: int = between(2, default=5)
    horizon: int = between(1, default=10)


class TabularMDP(TaskEnv):
    """MDPs with a few states and random rewards and transitions.

    Mean rewards are drawn from Normal(1, 1) for each state and action, transition probabilities
    from the flat Dirichlet distribution. A reward is normal around its mean, with variance 1. An
    episode starts in state 0 and is cut after `horizon` steps; it never terminates.

    The observation, `[B, S]`, float32, is the state, one-hot.

    Args:
        num_tasks: B, the number of MDPs played at once.
        device: where they are played.
        **settings: fields of `TabularMDPSettings`.
    """

    Settings = TabularMDPSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(TabularMDPSettings, settings)
        num_states = self.settings.num_states
        super().__init__(
            num_tasks,
            observation_spec=OneHot(num_states, dtype=torch.float32),
            action_spec=Categorical(self.settings.num_actions),
            max_episode_steps=self.settings.horizon,
            device=device,
        )
        self._one_hot = torch.eye(num_states, device=self.device)
        self._rows = torch.arange(num_tasks, device=self.device)
        self._state = torch.zeros_like(self._rows)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw mean rewards, `[num_tasks, S, A]`, and transitions, `[num_tasks, S, A, S]`."""
        shape = (num_tasks, self.settings.num_states, self.settings.num_actions)
        noise = torch.randn(shape, generator=self.generator, device=self.device)
        flat = torch.ones(*shape, self.settings.num_states, device=self.device)
        return TensorDict(
            {
                MEAN_REWARDS: 1 + noise,
                TRANSITION_PROBABILITIES: sample_dirichlet(flat, self.generator),
            },
            [num_tasks],
            self.device,
        )

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Reset the given rows to state 0."""
        self._state = self._state.masked_fill(rows.squeeze(1), 0)
        return self._one_hot[self._state]

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Play one step of every MDP."""
        noise = torch.randn(self.num_tasks, generator=self.generator, device=self.device)
        reward = self.expected_reward(action) + noise.unsqueeze(1)
        probabilities = self.tasks[TRANSITION_PROBABILITIES][self._rows, self._state, action]
        draw = torch.rand(self.num_tasks, 1, generator=self.generator, device=self.device)
        # The last entry is 1 up to rounding; no draw may exceed it.
        following = (draw >= probabilities.cumsum(-1)[:, :-1]).sum(-1)
        self._state = torch.where(playing.squeeze(1), following, self._state)
        return self._one_hot[self._state], reward, self._never

    def expected_reward(self, action: Tensor) -> Tensor:
        """The mean reward of the state and the action."""
        return self.tasks[MEAN_REWARDS][self._rows, self._state, action].unsqueeze(1)

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """The players of arXiv 1611.02779 (Table 2), and the optimum for a known MDP.

        Each comes twice: with the prior that the tasks are drawn from, and as published, with a
        prior mean reward of 0, whereas the tasks have 1. The last one is the reference,
        "optimal_policy": it knows the MDP, so that no learner can reach it.
        """
        sizes = Sizes(self.settings.num_states, self.settings.num_actions, self.settings.horizon)
        trials = TabularTrials(num_episodes, *sizes)
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "greedy": EpsilonGreedy(sizes, Prior()),
            "greedy_prior_mean_0": EpsilonGreedy(sizes, GREEDY_PRIOR_MEAN_0),
            "psrl": PosteriorSampling(sizes, Prior()),
            "psrl_prior_mean_0": PosteriorSampling(sizes, PRIOR_MEAN_0),
            **{name: TunedPlayer(name, trials) for name in trials.tuned},
            "optimal_policy": Optimal(sizes.horizon),
        }


@dataclass(frozen=True)
class TabularTrials(TunedTrials):
    """Trials that players of random tabular MDPs are tuned for.

    Attributes:
        num_states: S.
        num_actions: A.
        horizon: H, the length of an episode, in env steps.
    """

    num_states: int
    num_actions: int
    horizon: int
    table = Path(__file__).with_name("tuned_constants.csv")
    max_episodes = 5000  # the players plan before each of them

    @property
    def tuned(self) -> Mapping[str, Tuned]:
        """The tuned players, with the true priors and with the published ones."""
        return {
            **self._tuned("", Prior(), Prior(), Prior()),
            **self._tuned("_prior_mean_0", PRIOR_MEAN_0, GREEDY_PRIOR_MEAN_0, UCRL2_PRIOR_MEAN_0),
        }

    def make_env(self, num_tasks: int) -> TabularMDP:
        """MDPs of these sizes, on the CPU."""
        return TabularMDP(num_tasks, **self._sizes._asdict())

    @property
    def _sizes(self) -> Sizes:
        return Sizes(self.num_states, self.num_actions, self.horizon)

    def _tuned(
        self, suffix: str, prior: Prior, greedy_prior: Prior, ucrl2_prior: Prior
    ) -> dict[str, Tuned]:
        sizes = self._sizes
        return {
            f"epsilon_greedy{suffix}": Tuned(partial(EpsilonGreedy, sizes, greedy_prior), EPSILONS),
            f"opsrl{suffix}": Tuned(partial(PosteriorSampling, sizes, prior), NUM_SAMPLES),
            f"ucrl2{suffix}": Tuned(partial(UCRL2, sizes, ucrl2_prior), SCALES),
            f"beb{suffix}": Tuned(partial(BayesianExplorationBonus, sizes, prior), SCALES),
        }
