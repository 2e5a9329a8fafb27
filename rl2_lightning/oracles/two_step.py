"""The two-step task (Daw et al. 2011, as in arXiv 1611.05763): its law, and players of two kinds.

In state 0 the agent chooses one of two actions. Action a leads to state a + 1 by the common
transition, else to the other second-step state by the rare one. There, whatever the action, a
reward is drawn: one state pays with a high probability, the other with the rest. After an
episode the two may swap.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow

LEARNING_RATE = 0.5  # of the model-free player
INVERSE_TEMPERATURE = 5.0  # of its choices


class TwoStepChoices(NamedTuple):
    """What was chosen and what came of it in E episodes of B trials.

    Attributes:
        first_action: the action in state 0, `[B, E]`, int64.
        is_common: whether the transition was the common one, `[B, E]`, bool.
        reward: `[B, E]`, float32, 0 or 1.
    """

    first_action: Tensor
    is_common: Tensor
    reward: Tensor


@dataclass(frozen=True)
class TwoStepLaw:
    """The law of the tasks, and of what happens within each.

    Attributes:
        common_probability: of the transition from action a to state a + 1; at least 0.5.
        reward_probability: in the better second-step state, at least 0.5; the other has the rest.
        reversal_probability: that the two states swap after an episode.
    """

    common_probability: float
    reward_probability: float
    reversal_probability: float

    def sample(self, num_tasks: int, generator: torch.Generator) -> TensorDict:
        """Draws tasks: what states 1 and 2 pay in the first episode, `[num_tasks, 2]`, float32."""
        device = generator.device
        draw = torch.rand(num_tasks, generator=generator, device=device)
        better, worse = self.reward_probability, 1 - self.reward_probability
        first = torch.where(draw < 0.5, better, worse)
        probabilities = torch.stack((first, 1 - first), 1)
        return TensorDict({keys.REWARD_PROBABILITIES: probabilities}, [num_tasks], device)

    def is_common(self, num_tasks: int, generator: torch.Generator) -> Tensor:
        """Draws whether the transitions are the common ones, `[num_tasks]`, bool."""
        draw = torch.rand(num_tasks, generator=generator, device=generator.device)
        return draw < self.common_probability

    def reverse(self, reward_probabilities: Tensor, generator: torch.Generator) -> Tensor:
        """Swaps what the two states pay, `[B, 2]`, in some rows."""
        shape = (len(reward_probabilities), 1)
        draw = torch.rand(shape, generator=generator, device=reward_probabilities.device)
        swaps = draw < self.reversal_probability
        return torch.where(swaps, reward_probabilities.flip(1), reward_probabilities)


def draw_reward(
    reward_probabilities: Tensor, second_state: Tensor, generator: torch.Generator
) -> Tensor:
    """Draws the rewards of second-step states.

    Args:
        reward_probabilities: of both states, `[B, 2]`, float32.
        second_state: which of them, 0 or 1, `[B]`, int64.
        generator: source of randomness, on the same device.

    Returns:
        `[B]`, float32, 0 or 1.
    """
    probability = reward_probabilities.gather(1, second_state.unsqueeze(1)).squeeze(1)
    draw = torch.rand(probability.shape, generator=generator, device=probability.device)
    return (draw < probability).float()


class TwoStepPolicy(Oracle):
    """A rule that picks the first action from what it keeps of the episodes so far.

    Args:
        law: the law of the family.
    """

    def __init__(self, law: TwoStepLaw) -> None:
        self.law = law

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every task; see `Oracle.play`."""
        return self.play_choices(tasks, num_episodes, generator).reward

    def play_choices(
        self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator
    ) -> TwoStepChoices:
        """Plays one trial of every task, all at once on the device of the tasks.

        Args:
            tasks: hold what states 1 and 2 pay in the first episode, `[B, 2]`, float32; batch
                size `[B]`.
            num_episodes: E, length of each trial, in episodes.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            The choices, and what came of them.
        """
        probabilities: Tensor = tasks[keys.REWARD_PROBABILITIES]
        memory = self.start(probabilities)
        episodes = []
        for _ in track_slow(range(num_episodes), f"playing {type(self).__name__}"):
            action = self.choose(memory, generator)
            is_common = self.law.is_common(len(action), generator)
            second_state = torch.where(is_common, action, 1 - action)
            reward = draw_reward(probabilities, second_state, generator)
            memory = self.learn(memory, action, second_state, reward)
            probabilities = self.law.reverse(probabilities, generator)
            episodes.append((action, is_common, reward))
        return TwoStepChoices(*(torch.stack(entry, 1) for entry in zip(*episodes, strict=True)))

    @abstractmethod
    def start(self, like: Tensor) -> Tensor:
        """Gives the memory before the first episode, like `[B, 2]` in device and dtype."""

    @abstractmethod
    def choose(self, memory: Tensor, generator: torch.Generator) -> Tensor:
        """Picks the first action `[B]`, int64, from the memory."""

    @abstractmethod
    def learn(self, memory: Tensor, action: Tensor, second_state: Tensor, reward: Tensor) -> Tensor:
        """Gives the memory after an episode, from three entries `[B]`; states are 0 and 1."""


class RandomTwoStep(TwoStepPolicy):
    """Takes either action with the same probability."""

    def start(self, like: Tensor) -> Tensor:
        """Remembers nothing but the number of tasks, `[B]`."""
        return torch.zeros_like(like[:, 0])

    def choose(self, memory: Tensor, generator: torch.Generator) -> Tensor:
        """Picks an action uniformly; see `TwoStepPolicy.choose`."""
        return torch.randint(2, memory.shape, generator=generator, device=memory.device)

    def learn(self, memory: Tensor, action: Tensor, second_state: Tensor, reward: Tensor) -> Tensor:
        """Learns nothing; see `TwoStepPolicy.learn`."""
        return memory


class ModelFree(TwoStepPolicy):
    """Values the two actions by the rewards that followed, whatever lay between.

    Its values are those of SARSA(1) for the first step (Daw et al. 2011), Q(a) += 0.5 (r - Q(a))
    from 0.5 on, and its choices a softmax of 5 Q: an action that was rewarded is repeated, no
    matter by which transition the reward came.
    """

    def start(self, like: Tensor) -> Tensor:
        """Both values at 0.5, `[B, 2]`; see `TwoStepPolicy.start`."""
        return torch.full_like(like, 0.5)

    def choose(self, memory: Tensor, generator: torch.Generator) -> Tensor:
        """Picks by a softmax; see `TwoStepPolicy.choose`."""
        prefers_second = torch.sigmoid(INVERSE_TEMPERATURE * (memory[:, 1] - memory[:, 0]))
        draw = torch.rand(prefers_second.shape, generator=generator, device=memory.device)
        return (draw < prefers_second).long()

    def learn(self, memory: Tensor, action: Tensor, second_state: Tensor, reward: Tensor) -> Tensor:
        """Moves the value of the action; see `TwoStepPolicy.learn`."""
        error = reward.unsqueeze(1) - memory
        taken = torch.stack((action == 0, action == 1), 1)
        return memory + LEARNING_RATE * error * taken


class ModelBased(TwoStepPolicy):
    """Knows the law, and goes to the state that is the better one by its belief.

    The belief is exact: a Bayesian filter that weighs each reward by the state that it came from,
    and lets the states swap. What an episode teaches does not depend on the state that is
    reached, for what one state fails to pay speaks for the other: nothing is to be gained by
    exploring, and the player is the Bayes optimum.
    """

    def start(self, like: Tensor) -> Tensor:
        """The probability that state 1 is the better one, `[B]`; see `TwoStepPolicy.start`."""
        return torch.full_like(like[:, 0], 0.5)

    def choose(self, memory: Tensor, generator: torch.Generator) -> Tensor:
        """Picks the action of the better state; see `TwoStepPolicy.choose`."""
        return (memory < 0.5).long()

    def learn(self, memory: Tensor, action: Tensor, second_state: Tensor, reward: Tensor) -> Tensor:
        """Applies Bayes' rule, and then the reversals; see `TwoStepPolicy.learn`."""
        high = self.law.reward_probability
        speaks_for_first = (reward > 0.5) == (second_state == 0)
        likelihood = torch.where(speaks_for_first, high, 1 - high)
        for_first, for_second = memory * likelihood, (1 - memory) * (1 - likelihood)
        # Never 0 / 0: a certain belief is refuted only where states swap, and then none is certain.
        belief = for_first / (for_first + for_second)
        swaps = self.law.reversal_probability
        return belief * (1 - swaps) + (1 - belief) * swaps


def two_step_oracles(law: TwoStepLaw) -> dict[str, TwoStepPolicy]:
    """Gives the players of the two-step task; those of the two kinds of learning among them.

    Args:
        law: the law of the family.

    Returns:
        The players by name; the last one, "model_based", is the Bayes optimum.
    """
    return {
        "random": RandomTwoStep(law),
        "model_free": ModelFree(law),
        "model_based": ModelBased(law),
    }
