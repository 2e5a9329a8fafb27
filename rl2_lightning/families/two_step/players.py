"""Players of the two-step task: one learns from rewards alone, the other one knows its law."""

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.player import Player
from rl2_lightning.inputs import Inputs

LEARNING_RATE = 0.5  # of the model-free player
INVERSE_TEMPERATURE = 5.0  # of its choices


class Values(NamedTuple):
    """What the model-free player keeps.

    Attributes:
        of_actions: the value of each first action, `[B, 2]`, float32.
        first_action: of the present episode, `[B]`, int64.
    """

    of_actions: Tensor
    first_action: Tensor


class ModelFree(Player):
    """Values the two actions by the rewards that followed, whatever lay between.

    Its values are those of SARSA(1) for the first step (Daw et al. 2011), Q(a) += 0.5 (r - Q(a))
    from 0.5 on, and its choices a softmax of 5 Q: an action that was rewarded is repeated, no
    matter by which transition the reward came.
    """

    def start(self, tasks: TensorDictBase) -> Values:
        """Both values at 0.5."""
        num_tasks, device = len(tasks), tasks.device
        nothing = torch.zeros(num_tasks, dtype=torch.int64, device=device)
        return Values(torch.full((num_tasks, 2), 0.5, device=device), nothing)

    def choose(self, memory: Values, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Picks by a softmax; see `Player.choose`."""
        first, second = memory.of_actions.unbind(1)
        prefers_second = torch.sigmoid(INVERSE_TEMPERATURE * (second - first))
        draw = torch.rand(first.shape, generator=generator, device=first.device)
        return (draw < prefers_second).long()

    def learn(self, memory: Values, observation: Tensor, inputs: Inputs) -> Values:
        """Moves the value of the first action at the end of an episode; see `Player.learn`."""
        ends = inputs.previous_done > 0
        first_action = torch.where(ends.squeeze(1), memory.first_action, inputs.previous_action)
        taken = torch.nn.functional.one_hot(first_action, 2) * ends
        error = inputs.previous_reward - memory.of_actions
        return Values(memory.of_actions + LEARNING_RATE * error * taken, first_action)


class ModelBased(Player):
    """Knows the law, and goes to the state that is the better one by its belief.

    The belief is exact: a Bayesian filter that weighs each reward by the state that it came from,
    and lets the states swap. What an episode teaches does not depend on the state that is
    reached, for what one state fails to pay speaks for the other: nothing is to be gained by
    exploring, and the player is the Bayes optimum.

    Args:
        reward_probability: in the better second-step state; the other one has the rest.
        reversal_probability: that the two states swap after an episode.
    """

    def __init__(self, reward_probability: float, reversal_probability: float) -> None:
        self.reward_probability = reward_probability
        self.reversal_probability = reversal_probability

    def start(self, tasks: TensorDictBase) -> Tensor:
        """The probability that state 1 is the better one, `[B]`, float32."""
        return torch.full((len(tasks),), 0.5, device=tasks.device)

    def choose(self, memory: Tensor, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Picks the action of the better state; see `Player.choose`."""
        return (memory < 0.5).long()

    def learn(self, memory: Tensor, observation: Tensor, inputs: Inputs) -> Tensor:
        """Applies Bayes' rule and then the reversals at the end of an episode; see `Player`."""
        high, swaps = self.reward_probability, self.reversal_probability
        speaks_for_first = (inputs.previous_reward[:, 0] > 0.5) == (observation[:, 1] > 0.5)
        likelihood = torch.where(speaks_for_first, high, 1 - high)
        for_first, for_second = memory * likelihood, (1 - memory) * (1 - likelihood)
        # Never 0 / 0: a certain belief is refuted only where states swap, and then none is certain.
        belief = for_first / (for_first + for_second)
        following = belief * (1 - swaps) + (1 - belief) * swaps
        return torch.where(inputs.previous_done[:, 0] > 0, following, memory)
