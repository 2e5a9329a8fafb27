"""Players of the two-step task: one learns from rewards alone, the other knows its model."""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.player import Player
from rl2_lightning.inputs import Inputs

LEARNING_RATE = 0.5  # of the model-free player
INVERSE_TEMPERATURE = 5.0  # of its choices


class Values(NamedTuple):
    """The memory of the model-free player.

    Attributes:
        of_actions: the value of each first action, `[B, 2]`, float32.
        first_action: first action of the current episode, `[B]`, int64.
    """

    of_actions: Tensor
    first_action: Tensor


class ModelFree(Player):
    """Values the two actions by the rewards that followed, ignoring the transitions.

    Its values are those of SARSA(1) for the first step (Daw et al. 2011), Q(a) += 0.5 (r - Q(a)),
    starting at 0.5, and its choices a softmax of 5 Q: a rewarded action is repeated, whatever the
    transition was.
    """

    def start(self, tasks: TensorDictBase) -> Values:
        """A memory with both values at 0.5."""
        num_tasks, device = len(tasks), tasks.device
        nothing = torch.zeros(num_tasks, dtype=torch.int64, device=device)
        return Values(torch.full((num_tasks, 2), 0.5, device=device), nothing)

    def choose(self, memory: Values, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Sample from the softmax; see `Player.choose`."""
        first, second = memory.of_actions.unbind(1)
        prefers_second = torch.sigmoid(INVERSE_TEMPERATURE * (second - first))
        draw = torch.rand(first.shape, generator=generator, device=first.device)
        return (draw < prefers_second).long()

    def learn(self, memory: Values, observation: Tensor, inputs: Inputs) -> Values:
        """Update the value of the first action at the end of an episode; see `Player.learn`."""
        ends = inputs.previous_done > 0
        first_action = torch.where(ends.squeeze(1), memory.first_action, inputs.previous_action)
        taken = torch.nn.functional.one_hot(first_action, 2) * ends
        error = inputs.previous_reward - memory.of_actions
        return Values(memory.of_actions + LEARNING_RATE * error * taken, first_action)


class ModelBased(Player):
    """Knows the model, and goes to the state that is more likely to be the better one.

    Its belief is exact: a Bayesian filter with the likelihood of each reward given its state, and
    with reversals. Both states are equally informative, because a missing reward in one is evidence
    for the other: there is nothing to gain from exploring, and the player is the Bayes optimum.

    Args:
        reward_probability: reward probability of the better second-step state; the other one has
            one minus that.
        reversal_probability: probability that the two states are swapped after an episode.
    """

    def __init__(self, reward_probability: float, reversal_probability: float) -> None:
        self.reward_probability = reward_probability
        self.reversal_probability = reversal_probability

    def start(self, tasks: TensorDictBase) -> Tensor:
        """The probability that state 1 is the better one, `[B]`, float32."""
        return torch.full((len(tasks),), 0.5, device=tasks.device)

    def choose(self, memory: Tensor, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Pick the action of the better state; see `Player.choose`."""
        return (memory < 0.5).long()

    def learn(self, memory: Tensor, observation: Tensor, inputs: Inputs) -> Tensor:
        """Apply Bayes' rule and then the reversals at the end of an episode; see `Player`."""
        high, swaps = self.reward_probability, self.reversal_probability
        speaks_for_first = (inputs.previous_reward[:, 0] > 0.5) == (observation[:, 1] > 0.5)
        likelihood = torch.where(speaks_for_first, high, 1 - high)
        for_first, for_second = memory * likelihood, (1 - memory) * (1 - likelihood)
        # Never 0 / 0: a certain belief can only be refuted if states swap, and then none is
        # certain.
        belief = for_first / (for_first + for_second)
        following = belief * (1 - swaps) + (1 - belief) * swaps
        return torch.where(inputs.previous_done[:, 0] > 0, following, memory)
