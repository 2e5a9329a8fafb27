"""Credit within a trial, across the ends of its episodes."""

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate

from rl2_lightning import keys


def valued_steps(steps: TensorDictBase) -> Tensor:
    """Where a value is meant, `[B, T, 1]`, bool: where trials are played, and after a cut.

    Args:
        steps: `[B, T]`.
    """
    mask = steps.get(keys.MASK)
    follows = torch.zeros_like(mask)
    # The step after a cut is idle, but its value is bootstrapped from.
    follows[:, 1:] = (mask & ~steps.get(keys.TERMINATED))[:, :-1]
    return mask | follows


def clear_idle_steps(trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
    """Sets all that is of masked steps to zero, so that nothing of it, not even NaN, is seen.

    Args:
        trials: `[B]`, with steps `[B, T]`.
        state_steps: steps before which states of memories were kept.
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
    """Entries `[B, T]` with zeros where a mask, `[B, T, 1]`, bool, is false."""
    return entries.apply(
        lambda entry: entry.masked_fill(~mask.view(*mask.shape[:2], *[1] * (entry.ndim - 2)), 0)
    )


def trial_advantages(
    steps: TensorDictBase, values: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over whole trials (arXiv 1506.02438, equation 16).

    The trial is the trajectory: the end of an episode cuts neither advantage nor value.

    Args:
        steps: `[B, T]`, idle ones cleared.
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
        steps.get(keys.REWARD),
        steps.get(keys.DONE),
        steps.get(keys.TERMINATED),
    )
    return advantages, targets
