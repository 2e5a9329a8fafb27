"""Policies: distributions over actions from the memory's features."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from rl2_lightning.agents.categorical import LogitCategorical, log_softmax
from rl2_lightning.agents.initialisation import OUTPUT_GAIN, fully_connected
from rl2_lightning.agents.spaces import Actions, Box, Discrete, MultiDiscrete
from rl2_lightning.agents.squashed_normal import SquashedNormal
from rl2_lightning.errors import UserError

LARGEST_LOC = 5.0  # tanh is then within 1e-4 of its bounds, and log-probabilities are still finite
SMALLEST_SCALE, LARGEST_SCALE = 0.01, 2.0  # halfway between, actions are nearly uniform
NO_VALUE = -1e9  # logit of probability 0; infinity would give NaN in derivatives


class Policy(nn.Module):
    """Computes distributions over actions, and samples without constructing them.

    Attributes:
        distribution_class: class of the distributions.
        parameter_names: names of its constructor's arguments.
    """

    distribution_class: ClassVar[type[Distribution]]
    parameter_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def parameters_of(self, features: Tensor) -> tuple[Tensor, ...]:
        """The parameters of the distributions, `[..., A]` each, for features `[..., H]`."""

    @abstractmethod
    def act(
        self, features: Tensor, *, greedy: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Choose actions.

        Args:
            features: `[B, H]`, float.
            greedy: whether to take the most likely actions instead of sampling.
            generator: generator of the actions; None for PyTorch's global one.

        Returns:
            Actions, `[B]`, int64, or `[B, A]`, int64 or float32, and their log-probabilities,
            `[B]`.
        """

    def forward(self, features: Tensor) -> Distribution:
        """The distributions, of batch shape `[...]`, for features `[..., H]`."""
        parameters: dict[str, Any] = dict(
            zip(self.parameter_names, self.parameters_of(features), strict=True)
        )
        # Validation would synchronise with the device.
        return self.distribution_class(**parameters, validate_args=False)


class CategoricalPolicy(Policy):
    """A policy over discrete actions.

    Args:
        layers: maps features `[..., H]` to logits `[..., A]`.
    """

    distribution_class = LogitCategorical
    parameter_names = ("logits",)

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def parameters_of(self, features: Tensor) -> tuple[Tensor, ...]:
        """See `Policy.parameters_of`."""
        return (self.layers(features).float(),)

    def act(
        self, features: Tensor, *, greedy: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`."""
        return _choose(self.parameters_of(features)[0], greedy=greedy, generator=generator)


class MultiCategorical(Independent[LogitCategorical]):
    """Independent categorical distributions, one for each of A numbers.

    Args:
        logits: `[..., A, N]`, float32; N is the largest number of values, and `NO_VALUE` stands
            where a number has fewer.
        validate_args: whether parameters and actions are validated; see `torch.distributions`.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(LogitCategorical(logits, validate_args), 1, validate_args)


class MultiCategoricalPolicy(Policy):
    """A policy over several discrete numbers, which are independent given the features.

    Args:
        actions: space of the actions, A numbers.
        layers: maps features `[..., H]` to the logits of all values of all numbers, one after the
            other.
    """

    distribution_class = MultiCategorical
    parameter_names = ("logits",)
    places: Tensor

    def __init__(self, actions: MultiDiscrete, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self._shape = len(actions.nvec), max(actions.nvec)
        places = [row * self._shape[1] + k for row, n in enumerate(actions.nvec) for k in range(n)]
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def parameters_of(self, features: Tensor) -> tuple[Tensor, ...]:
        """See `Policy.parameters_of`; logits `[..., A, N]`."""
        logits = self.layers(features).float()
        rows, columns = self._shape
        padded = logits.new_full((*logits.shape[:-1], rows * columns), NO_VALUE)
        return (padded.index_copy(-1, self.places, logits).unflatten(-1, self._shape),)

    def act(
        self, features: Tensor, *, greedy: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`."""
        (logits,) = self.parameters_of(features)
        action, log_probabilities = _choose(logits, greedy=greedy, generator=generator)
        return action, log_probabilities.sum(dim=-1)


def _choose(
    logits: Tensor, *, greedy: bool, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Choose by logits, `[..., N]`: the values, `[...]`, int64, and their log-probabilities."""
    log_probabilities = log_softmax(logits)
    if greedy:
        action = log_probabilities.argmax(dim=-1, keepdim=True)
    else:
        # The first of independent exponential arrivals. `torch.multinomial` samples in the same
        # way, but checks the probabilities, which synchronises with the device.
        waiting = _waiting_times(log_probabilities, generator)
        action = (log_probabilities.exp() / waiting).max(dim=-1, keepdim=True).indices
    return action.squeeze(-1), log_probabilities.gather(-1, action).squeeze(-1)


def _waiting_times(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Samples of the exponential distribution of mean 1, of the shape of `like`, float32."""
    if like.device.type != "cpu":
        return torch.empty_like(like).exponential_(generator=generator)
    # The same numbers in half the time: PyTorch computes the logarithms one by one.
    uniform = torch.rand(like.shape, dtype=torch.float64, generator=generator)
    return uniform.neg_().log1p_().neg_().float()


class SquashedNormalPolicy(Policy):
    """A policy over continuous actions with finite bounds.

    Location and scale are limited to ranges in which log-probabilities are finite. Beyond these an
    action would be rounded to its bound, and its log-probability would be arbitrary.

    Args:
        actions: space of the actions, `[A]`.
        layers: maps features `[..., H]` to numbers `[..., 2 A]`, for the locations and then the
            scales.
    """

    distribution_class = SquashedNormal
    parameter_names = ("loc", "scale", "centre", "half_width")
    centre: Tensor
    half_width: Tensor

    def __init__(self, actions: Box, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("centre", torch.tensor(actions.centre), persistent=False)
        self.register_buffer("half_width", torch.tensor(actions.half_width), persistent=False)

    def parameters_of(self, features: Tensor) -> tuple[Tensor, ...]:
        """See `Policy.parameters_of`."""
        # An action is float32 under every precision of the trainer.
        loc, scale = self.layers(features).float().chunk(2, dim=-1)
        loc = LARGEST_LOC * torch.tanh(loc / LARGEST_LOC)
        scale = SMALLEST_SCALE + (LARGEST_SCALE - SMALLEST_SCALE) * torch.sigmoid(scale)
        return loc, scale, self.centre.expand_as(loc), self.half_width.expand_as(loc)

    def act(
        self, features: Tensor, *, greedy: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`."""
        distribution = self(features)
        assert isinstance(distribution, SquashedNormal)
        if greedy:
            action = distribution.deterministic_sample
        else:
            loc, scale = distribution.loc, distribution.scale
            noise = torch.empty_like(loc).normal_(generator=generator)
            action = distribution.squash(loc + scale * noise)
        return action, distribution.log_prob(action)


def make_policy(actions: Actions, make_layers: Callable[[int], nn.Module]) -> Policy:
    """The policy for a kind of actions.

    Args:
        actions: space of the actions.
        make_layers: builds the layers that map features to that many distribution parameters.

    Raises:
        UserError: the actions are neither discrete nor a bounded vector.
    """
    if isinstance(actions, Discrete):
        return CategoricalPolicy(make_layers(actions.n))
    if isinstance(actions, MultiDiscrete):
        return MultiCategoricalPolicy(actions, make_layers(actions.size))
    bounds = (actions.low, actions.high)
    is_bounded = all(
        bound is not None and len(bound) == actions.size and all(map(math.isfinite, bound))
        for bound in bounds
    )
    if len(actions.shape) == 1 and is_bounded:
        return SquashedNormalPolicy(actions, make_layers(2 * actions.size))
    raise UserError(
        f"actions of shape {list(actions.shape)} without finite bounds have no policy: use "
        "discrete actions, or a vector of numbers between finite bounds"
    )


def policy_layers(num_features: int, hidden_sizes: Sequence[int]) -> Callable[[int], nn.Module]:
    """A function that builds fully connected layers with a given number of outputs."""

    def make(num_outputs: int) -> nn.Module:
        return fully_connected(num_features, hidden_sizes, num_outputs, output_gain=OUTPUT_GAIN)

    return make
