"""The two-step task of Daw et al. (2011), as in arXiv 1611.05763, section 3.2."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, OneHot

from rl2_lightning import keys
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.two_step import (
    TwoStepChoices,
    TwoStepLaw,
    draw_reward,
    two_step_oracles,
)

NUM_STATES = 3


class TwoStep(TaskEnv):
    """A choice that leads to one of two states, mostly, and a reward that is drawn there.

    An episode has two steps. In state 0 action a leads to state a + 1 with the common
    probability, else to the other of the states 1 and 2. There any action earns a reward, 1 with
    the state's probability and else 0, and ends the episode. After an episode the two states may
    swap their probabilities. The observation, `[B, 3]`, float32, is the state, one-hot.

    Args:
        num_tasks: B, the number of tasks played at once.
        common_probability: of the common transition.
        reward_probability: of the better of the states 1 and 2; the other one has the rest.
        reversal_probability: that the two swap after an episode.
        device: where they are played.

    Raises:
        UserError: a probability is outside of its range: [0.5, 1] for that of the common
            transition and of the better state, [0, 1] for that of a reversal.
    """

    recorded_keys = (keys.OBSERVATION, keys.ACTION)  # for the analysis of choices

    def __init__(
        self,
        num_tasks: int,
        common_probability: float = 0.75,
        reward_probability: float = 0.9,
        reversal_probability: float = 0.025,
        device: torch.device | str = "cpu",
    ) -> None:
        _require_probability("common_probability", common_probability, 0.5)
        _require_probability("reward_probability", reward_probability, 0.5)
        _require_probability("reversal_probability", reversal_probability, 0)
        super().__init__(
            num_tasks,
            observation_spec=OneHot(NUM_STATES, dtype=torch.float32),
            action_spec=Categorical(2),
            max_episode_steps=2,
            device=device,
        )
        self.law = TwoStepLaw(common_probability, reward_probability, reversal_probability)
        self._one_hot = torch.eye(NUM_STATES, device=self.device)
        self._state = torch.zeros(num_tasks, dtype=torch.int64, device=self.device)
        self._reward_probabilities = torch.zeros(num_tasks, 2, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws what states 1 and 2 pay in the first episode, `[num_tasks, 2]`."""
        return self.law.sample(num_tasks, self.generator)

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Puts new tasks into some rows, without reversals there; see `TaskEnv.set_tasks`."""
        super().set_tasks(tasks, rows)
        start = self.tasks[keys.REWARD_PROBABILITIES]
        self._reward_probabilities = torch.where(rows, start, self._reward_probabilities)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Puts the rows into state 0; what the states pay goes on."""
        self._state = torch.where(rows.squeeze(1), 0, self._state)
        return self._one_hot[self._state]

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Plays one step of every task, be it a first or a second one."""
        is_first = self._state == 0
        is_common = self.law.is_common(self.num_tasks, self.generator)
        second_state = torch.where(is_common, action, 1 - action)
        # In a first step no reward is drawn, and the index only has to be a valid one.
        present = (self._state - 1).clamp_min(0)
        reward = draw_reward(self._reward_probabilities, present, self.generator)
        reward = torch.where(is_first, 0.0, reward)
        reversed_ = self.law.reverse(self._reward_probabilities, self.generator)
        self._reward_probabilities = torch.where(
            is_first.unsqueeze(1), self._reward_probabilities, reversed_
        )
        self._state = torch.where(is_first, second_state + 1, self._state)
        return self._one_hot[self._state], reward.unsqueeze(1), ~is_first.unsqueeze(1)

    def expected_reward(self, action: Tensor) -> Tensor:
        """What the present states pay on average, `[B, 1]`, float32; 0 in state 0."""
        nothing = torch.zeros_like(self._reward_probabilities[:, :1])
        by_state = torch.cat((nothing, self._reward_probabilities), 1)
        return by_state.gather(1, self._state.unsqueeze(1))

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """A model-free and a model-based player, beside a random one."""
        return two_step_oracles(self.law)


def choices_of(trials: TensorDictBase) -> TwoStepChoices:
    """Reads the choices from played trials of the two-step task.

    Args:
        trials: `[B, T]`, with the observation, the action and the reward. Trials of this family
            are of the same length, and an episode that was cut at their end is left out.

    Returns:
        The choices, and what came of them.
    """
    whole = trials[:, : trials.batch_size[1] // 2 * 2]
    action = whole[keys.ACTION][:, ::2]
    second_state = whole[keys.OBSERVATION][:, 1::2].argmax(-1) - 1
    return TwoStepChoices(action, second_state == action, whole[keys.REWARD][:, 1::2].squeeze(-1))


def _require_probability(name: str, value: float, low: float) -> None:
    if not low <= value <= 1:
        raise UserError(f"{name}={value}: this probability lies in {low} to 1")
