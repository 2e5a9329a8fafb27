"""Credit assignment within a trial, across episode boundaries."""

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate

from rl2_lightning import keys


def valued_steps(steps: TensorDictBase) -> Tensor:
    """Where a value is needed, `[B, T, 1]`, bool: where trials are played, and after a cut.

    Args:
        steps: `[B, T]`.
    """
    mask = steps.get(keys.MASK)
    follows = torch.zeros_like(mask)
    # The step after a cut is idle, but its value is needed for bootstrapping.
    follows[:, 1:] = (mask & ~steps.get(keys.TERMINATED))[:, :-1]
    return mask | follows


def clear_idle_steps(trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
    """Set all entries of masked steps to zero, so that not even a NaN in them has an effect.

    Args:
        trials: `[B]`, with steps `[B, T]`.
        state_steps: steps before which states of memories were stored.
    """
    steps = trials.get(keys.STEPS)
    mask = steps.get(keys.MASK)
    if mask.all():
        return trials
    cleared = trials.copy().set(keys.STEPS, clear(steps, mask))
    for name in (keys.MEMORY_STATE, keys.CRITIC_STATE):
        states = trials.get(name, None)
        if states is not None:
            cleared.set(name, clear(states, mask[:, list(state_steps)]))
    return cleared


def clear(entries: TensorDictBase, mask: Tensor) -> TensorDictBase:
    """The entries `[B, T]`, set to zero where the mask, `[B, T, 1]`, bool, is false."""
    return entries.apply(
        lambda entry: entry.masked_fill(~mask.view(*mask.shape[:2], *[1] * (entry.ndim - 2)), 0)
    )


def trial_advantages(
    steps: TensorDictBase, values: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over whole trials (arXiv 1506.02438, equation 16).

    The trial is the trajectory: the end of an episode cuts neither advantages nor values.

    Args:
        steps: `[B, T]`, idle ones set to zero.
        values: `[B, T, 1]`, in units of the reward; zero after a trial that terminated.
        gamma: discount of one env step.
        gae_lambda: GAE's λ, the weight of longer returns.

    Returns:
        Advantages and value targets, `[B, T, 1]` each, in units of the reward.
    """
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    # TorchRL would convert Python numbers to the default dtype.
    discount, decay = values.new_tensor(gamma), values.new_tensor(gae_lambda)
    advantages, targets = generalized_advantage_estimate(
        discount,
        decay,
        values,
        following,
        steps.get(keys.REWARD),
        steps.get(keys.DONE),
        steps.get(keys.TERMINATED),
    )
    return advantages, targets
