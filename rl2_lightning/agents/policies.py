"""From the memory's features to a distribution over actions."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from rl2_lightning.agents.initialisation import fully_connected
from rl2_lightning.agents.spaces import Actions, Box, Discrete
from rl2_lightning.agents.squashed_normal import SquashedNormal
from rl2_lightning.errors import UserError

OUTPUT_GAIN = 0.01  # the first policy is nearly uniform
LARGEST_LOC = 5.0  # where tanh is within 1e-4 of its bounds, and log-probabilities are still finite
SMALLEST_SCALE, LARGEST_SCALE = 0.01, 2.0  # in the middle of them actions are nearly uniform


class Policy(nn.Module):
    """Gives distributions over actions, and draws from them without making them.

    Attributes:
        distribution_class: of the distributions.
        parameter_names: of the arguments with which they are made.
    """

    distribution_class: ClassVar[type[Distribution]]
    parameter_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def parameters_of(self, features: Tensor) -> tuple[Tensor, ...]:
        """The parameters of the distributions, `[..., A]` each, of features `[..., H]`."""

    @abstractmethod
    def act(
        self, features: Tensor, *, greedy: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Chooses actions.

        Args:
            features: `[B, H]`, float.
            greedy: whether to take the most likely actions, and not to draw them.
            generator: source of the draws; None for PyTorch's own.

        Returns:
            Actions, `[B]`, int64, or `[B, A]`, float32, and their log-probabilities, `[B]`.
        """

    def forward(self, features: Tensor) -> Distribution:
        """The distributions, of batch shape `[...]`, of features `[..., H]`."""
        parameters: dict[str, Any] = dict(
            zip(self.parameter_names, self.parameters_of(features), strict=True)
        )
        # Validation would wait for the device.
        return self.distribution_class(**parameters, validate_args=False)


class CategoricalPolicy(Policy):
    """A policy over discrete actions.

    Args:
        num_features: H, width of the features.
        num_actions: A.
        hidden_sizes: widths of the layers before the logits.
    """

    distribution_class = Categorical
    parameter_names = ("logits",)

    def __init__(self, num_features: int, num_actions: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = fully_connected(
            num_features, hidden_sizes, num_actions, output_gain=OUTPUT_GAIN
        )

    def parameters_of(self, features: Tensor) -> tuple[Tensor, ...]:
        """See `Policy.parameters_of`."""
        return (self.layers(features).float(),)

    def act(
        self, features: Tensor, *, greedy: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`."""
        log_probabilities = torch.log_softmax(self.parameters_of(features)[0], dim=-1)
        if greedy:
            action = log_probabilities.argmax(dim=-1, keepdim=True)
        else:
            # The first of independent arrivals, as `torch.multinomial` draws, but that looks at
            # all probabilities, for which a device would be waited for.
            waiting = _waiting_times(log_probabilities, generator)
            action = (log_probabilities.exp() / waiting).max(dim=-1, keepdim=True).indices
        return action.squeeze(-1), log_probabilities.gather(-1, action).squeeze(-1)


def _waiting_times(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws from the exponential distribution of mean 1, `[B, A]`, float32, as `exponential_`."""
    if like.device.type != "cpu":
        return torch.empty_like(like).exponential_(generator=generator)
    # The same numbers in half of the time: PyTorch takes their logarithms one by one.
    uniform = torch.rand(like.shape, dtype=torch.float64, generator=generator)
    return uniform.neg_().log1p_().neg_().float()


class SquashedNormalPolicy(Policy):
    """A policy over numbers between finite bounds.

    Location and scale are kept in ranges within which no log-probability can overflow: beyond
    them an action is rounded to its bound, and its probability could be any.

    Args:
        num_features: H, width of the features.
        actions: the numbers, `[A]`.
        hidden_sizes: widths of the layers before the parameters.
    """

    distribution_class = SquashedNormal
    parameter_names = ("loc", "scale", "centre", "half_width")
    centre: Tensor
    half_width: Tensor

    def __init__(self, num_features: int, actions: Box, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = fully_connected(
            num_features, hidden_sizes, 2 * actions.size, output_gain=OUTPUT_GAIN
        )
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


def make_policy(num_features: int, actions: Actions, hidden_sizes: Sequence[int]) -> Policy:
    """The policy for a kind of actions.

    Args:
        num_features: H, width of the features.
        actions: which actions there are.
        hidden_sizes: widths of the layers before the distribution's parameters.

    Raises:
        UserError: the actions are neither discrete nor a vector of bounded numbers.
    """
    if isinstance(actions, Discrete):
        return CategoricalPolicy(num_features, actions.n, hidden_sizes)
    bounds = (actions.low, actions.high)
    is_bounded = all(
        bound is not None and len(bound) == actions.size and all(map(math.isfinite, bound))
        for bound in bounds
    )
    if len(actions.shape) == 1 and is_bounded:
        return SquashedNormalPolicy(num_features, actions, hidden_sizes)
    raise UserError(
        f"actions of shape {list(actions.shape)} without finite bounds have no policy: use "
        "discrete actions, or a vector of numbers between finite bounds"
    )
