"""The two-step task of Daw et al. (2011), as in arXiv 1611.05763, section 3.2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, OneHot

from rl2_lightning import keys
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.two_step.players import ModelBased, ModelFree
from rl2_lightning.families.two_step.stay_probabilities import StayProbabilityAnalysis
from rl2_lightning.settings import Settings, between

REWARD_PROBABILITIES = "reward_probabilities"  # [B, 2], float32: in the first episode
NUM_STATES = 3


@dataclass
class TwoStepSettings(Settings):
    """Settings of the family.

    Attributes:
        common_probability: probability of the common transition.
        reward_probability: reward probability of the better of the states 1 and 2; the other one
            has one minus that.
        reversal_probability: probability that the two are swapped after an episode.
    """

    common_probability: float = between(0.5, 1, default=0.75)
    reward_probability: float = between(0.5, 1, default=0.9)
    reversal_probability: float = between(0, 1, default=0.025)


class TwoStep(TaskEnv):
    """A choice that mostly leads to one of two states, and a random reward in that state.

    An episode has two steps. In state 0 action a leads to state a + 1 with the common
    probability, else to the other of the states 1 and 2. There any action earns a reward, 1 with
    the state's probability and else 0, and ends the episode. After an episode the two states may
    swap their probabilities. The observation, `[B, 3]`, float32, is the state, one-hot.

    Args:
        num_tasks: B, the number of tasks played at once.
        device: where they are played.
        **settings: fields of `TwoStepSettings`.
    """

    Settings = TwoStepSettings
    recorded_keys = (keys.OBSERVATION, keys.ACTION)  # for the analysis of choices

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(TwoStepSettings, settings)
        super().__init__(
            num_tasks,
            observation_spec=OneHot(NUM_STATES, dtype=torch.float32),
            action_spec=Categorical(2),
            max_episode_steps=2,
            device=device,
        )
        self._one_hot = torch.eye(NUM_STATES, device=self.device)
        self._state = torch.zeros(num_tasks, 1, dtype=torch.int64, device=self.device)
        self._reward_probabilities = torch.zeros(num_tasks, 2, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the initial reward probabilities of states 1 and 2, `[num_tasks, 2]`, float32."""
        better = self.settings.reward_probability
        first = torch.where(self._draw(num_tasks) < 0.5, better, 1 - better)
        probabilities = torch.cat((first, 1 - first), 1)
        return TensorDict({REWARD_PROBABILITIES: probabilities}, [num_tasks], self.device)

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Set new tasks in some rows, and undo reversals there; see `TaskEnv.set_tasks`."""
        super().set_tasks(tasks, rows)
        start = self.tasks[REWARD_PROBABILITIES]
        self._reward_probabilities = torch.where(rows, start, self._reward_probabilities)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Reset the given rows to state 0; the reward probabilities are kept."""
        self._state = self._state.masked_fill(rows, 0)
        return self._one_hot[self._state.squeeze(1)]

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Play the first or second step of every task."""
        is_first = self._state == 0
        is_common = self._draw(self.num_tasks) < self.settings.common_probability
        chosen = action.unsqueeze(1)
        second_state = 1 + torch.where(is_common, chosen, 1 - chosen)
        reward = (self._draw(self.num_tasks) < self.expected_reward(action)).float()
        swaps = self._draw(self.num_tasks) < self.settings.reversal_probability
        present = self._reward_probabilities
        self._reward_probabilities = torch.where(
            swaps & ~is_first & playing, present.flip(1), present
        )
        self._state = torch.where(is_first & playing, second_state, self._state)
        return self._one_hot[self._state.squeeze(1)], reward, ~is_first

    def expected_reward(self, action: Tensor) -> Tensor:
        """The reward probabilities of the current states, `[B, 1]`, float32; 0 in state 0."""
        by_state = torch.nn.functional.pad(self._reward_probabilities, (1, 0))
        return by_state.gather(1, self._state)

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random, a model-free and a model-based player."""
        known = self.settings
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "model_free": ModelFree(),
            "model_based": ModelBased(known.reward_probability, known.reversal_probability),
        }

    def analysis(self, num_episodes: int) -> StayProbabilityAnalysis:
        """The analysis of whether a player is a model-free or a model-based learner."""
        return StayProbabilityAnalysis()

    def _draw(self, num_tasks: int) -> Tensor:
        return torch.rand(num_tasks, 1, generator=self.generator, device=self.device)
