"""Credit within a trial, across the ends of its episodes."""

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate

from rl2_lightning import keys


def clear_idle_steps(trials: TensorDictBase) -> TensorDictBase:
    """Sets every entry of the masked steps to zero, so that nothing of them, not even NaN, is seen.

    Args:
        trials: `[B, T]`.
    """
    mask = trials.get(keys.MASK)
    if mask.all():
        return trials
    return trials.apply(
        lambda entry: entry.masked_fill(~mask.view(*mask.shape[:2], *[1] * (entry.ndim - 2)), 0)
    )


def trial_advantages(
    trials: TensorDictBase, values: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over whole trials (arXiv 1506.02438, equation 16).

    The trial is the trajectory: the end of an episode cuts neither advantage nor value.

    Args:
        trials: `[B, T]`, idle steps cleared.
        values: `[B, T, 1]`, in units of the reward; zero after a trial that terminated.
        gamma: discount of one env step.
        gae_lambda: weight of longer returns.

    Returns:
        Advantages and value targets, `[B, T, 1]` each, in units of the reward.
    """
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    # As Python numbers they would be rounded to the default dtype.
    discount, decay = values.new_tensor(gamma), values.new_tensor(gae_lambda)
    advantages, targets = generalized_advantage_estimate(
        discount,
        decay,
        values,
        following,
        trials.get(keys.REWARD),
        trials.get(keys.DONE),
        trials.get(keys.TERMINATED),
    )
    return advantages, targets
