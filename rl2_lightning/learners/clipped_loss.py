"""The losses of proximal policy optimisation (arXiv 1707.06347)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution


class PolicyLoss(NamedTuple):
    """What `policy_loss` returns, for each of M steps, `[M]` each.

    Attributes:
        loss: the clipped surrogate, to be minimised.
        log_ratio: log of the probability of the action relative to that under the old policy.
        is_clipped: whether the ratio is beyond the clipping range; bool.
    """

    loss: Tensor
    log_ratio: Tensor
    is_clipped: Tensor


def policy_loss(
    policy: Distribution, action: Tensor, old_log_prob: Tensor, advantage: Tensor, epsilon: float
) -> PolicyLoss:
    """The clipped surrogate objective (equation 7), negated.

    Args:
        policy: the current policy, of batch shape `[M]`.
        action: the actions taken, `[M]` or `[M, A]`.
        old_log_prob: their log-probabilities when they were taken, `[M]`, float32.
        advantage: `[M]`, float32.
        epsilon: clipping range of the ratio around 1.
    """
    log_ratio = policy.log_prob(action) - old_log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    loss = torch.maximum(-advantage * ratio, -advantage * clipped)
    return PolicyLoss(loss, log_ratio.detach(), ratio.detach() != clipped.detach())


def value_loss(
    value: Tensor, old_value: Tensor, target: Tensor, clip: float | None = None
) -> Tensor:
    """Squared errors of M values, `[M, 1]` each.

    Args:
        value: the current values.
        old_value: the values at collection.
        target: the value targets.
        clip: clipping range of the values around the old ones, where the larger error counts; None
            for no clipping.
    """
    error = (value - target).square()
    if clip is None:
        return error
    clipped = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum(error, (clipped - target).square())
