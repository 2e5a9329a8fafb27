"""Give the policy the observation beside the memory's features, or hypernetwork layers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rl2_lightning.agents.belief import Belief, BeliefMemory
from rl2_lightning.agents.initialisation import OUTPUT_GAIN, fully_connected
from rl2_lightning.agents.memories.memory import Memory, State
from rl2_lightning.agents.products import Linear


class ShowingMemory(Memory):
    """A memory that prepends the current observation to its features.

    Policy and value then get it directly, and the memory need not store it (arXiv 2309.14970).

    Args:
        inner: the wrapped memory; gets the encoding without the observation.
        observation_size: O, width of the observation, which ends the encoding.

    Attributes:
        inner: the wrapped memory.
        observation_size: O, width of the observation, which begins the features.
    """

    def __init__(self, inner: Memory, observation_size: int) -> None:
        super().__init__()
        self.inner = inner
        self.observation_size = observation_size
        self.output_size = observation_size + inner.output_size

    @property
    def summary_size(self) -> int:
        """See `Memory.summary_size`."""
        return self.observation_size + self.inner.summary_size

    def initial_state(self, num: int) -> State:
        """The inner memory's initial state; see `Memory.initial_state`."""
        return self.inner.initial_state(num)

    def with_noise(self, state: State, generator: torch.Generator) -> State:
        """See `Memory.with_noise`."""
        return self.inner.with_noise(state, generator)

    def beliefs(self, encoding: Tensor) -> Belief:
        """The beliefs of the inner memory, which has to be a `BeliefMemory`; see there."""
        return cast(BeliefMemory, self.inner).beliefs(self._split(encoding)[0])

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        given, observation = self._split(encoding)
        features, state = self.inner.step(given, state)
        return torch.cat([observation, features], dim=-1), state

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        given, observation = self._split(encoding)
        features, state = self.inner.unroll_trial(given, state)
        return torch.cat([observation, features], dim=-1), state

    def require_steps(self, num_steps: int) -> None:
        """See `Memory.require_steps`."""
        self.inner.require_steps(num_steps)

    def _split(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        given_size = encoding.shape[-1] - self.observation_size
        given, observation = encoding.split((given_size, self.observation_size), dim=-1)
        return given, observation


class HyperLayers(nn.Module):
    """Layers on an observation whose weights are a linear function of the memory's features.

    At initialisation the weights do not depend on the memory and equal those of freshly initialised
    plain layers: Bias-HyperInit (arXiv 2210.11348).

    Args:
        observation_size: O, width of the observation, which begins the features.
        num_features: H, number of the other features, which determine the weights.
        hidden_sizes: widths of the layers, each followed by a ReLU.
        num_outputs: width of the last layer.
    """

    def __init__(
        self,
        observation_size: int,
        num_features: int,
        hidden_sizes: Sequence[int],
        num_outputs: int,
    ) -> None:
        super().__init__()
        plain = fully_connected(
            observation_size, hidden_sizes, num_outputs, output_gain=OUTPUT_GAIN
        )
        first = torch.cat([parameter.detach().flatten() for parameter in plain.parameters()])
        self._sizes = [observation_size, *hidden_sizes, num_outputs]
        self.weights = Linear(num_features, len(first))
        nn.init.zeros_(self.weights.weight)
        self.weights.bias = nn.Parameter(first)

    def forward(self, features: Tensor) -> Tensor:
        """From `[..., O + H]` to `[..., num_outputs]`."""
        shapes = list(pairwise(self._sizes))
        outputs, remembered = features.split((self._sizes[0], self.weights.in_features), dim=-1)
        sizes = [size for before, after in shapes for size in (before * after, after)]
        parts = self.weights(remembered).split(sizes, dim=-1)
        for number, (before, after) in enumerate(shapes):
            if number:
                outputs = outputs.relu()
            weight, bias = parts[2 * number : 2 * number + 2]
            weight = weight.unflatten(-1, (after, before))
            outputs = (weight @ outputs.to(weight.dtype).unsqueeze(-1)).squeeze(-1) + bias
        return outputs
