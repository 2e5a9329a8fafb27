"""The RL² inputs: what a player is shown at each step of a trial (arXiv 1611.02779, section 2.2).

They are the same whether a trial is collected, evaluated or played by a deployed agent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

# A tensor, or tensors by name where a family shows several things.
Observation = Tensor | dict[str, Tensor]


class Inputs(NamedTuple):
    """What is shown before a step, of one step `[B]` or of a window `[B, T]`.

    Attributes:
        observation: `[B, *observation]`.
        previous_action: as the action was taken: `[B]`, int64, or `[B, A]`, float32. At a trial's
            start it is `no_action`: the number of actions, or the middle of the bounds.
        previous_reward: `[B, 1]`, float32; 0 at a trial's start.
        previous_done: `[B, 1]`, float32; 1 where an episode begins, also the first of a trial.
        previous_observation: where the previous action was taken, as `observation`; zeros at a
            trial's start.
    """

    observation: Observation
    previous_action: Tensor
    previous_reward: Tensor
    previous_done: Tensor
    previous_observation: Observation


def first_inputs(observation: Observation, action: Tensor) -> Inputs:
    """What is shown where a trial begins.

    Args:
        observation: of the first episode, `[B, *observation]`.
        action: what stands for an action where none was taken, as `no_action` gives it.
    """
    zero = torch.zeros(len(action), 1, device=action.device)
    nothing = tree_map(torch.zeros_like, observation)
    return Inputs(observation, action, zero, torch.ones_like(zero), nothing)


def next_inputs(
    before: Inputs, action: Tensor, observation: Observation, reward: Tensor, done: Tensor
) -> Inputs:
    """What is shown after a step.

    Args:
        before: what was shown before it.
        action: that was taken, `[B]` or `[B, A]`.
        observation: `[B, *observation]`; after the end of an episode, the first of the next one.
        reward: `[B, 1]`, float32.
        done: whether the step has ended an episode, `[B, 1]`.
    """
    return Inputs(observation, action, reward, done.float(), before.observation)


def no_action(
    num: int, num_actions: int | None, centre: Sequence[float], device: torch.device | None
) -> Tensor:
    """What stands for the previous action where none was taken.

    Args:
        num: B.
        num_actions: how many discrete actions there are; None where they are continuous.
        centre: the middle of the bounds of continuous actions, A numbers.
        device: of the result.

    Returns:
        The number of actions, `[B]`, int64; or the middle of the bounds, `[B, A]`, float32.
    """
    if num_actions is None:
        return torch.tensor(centre, device=device).expand(num, -1)
    return torch.full((num,), num_actions, device=device)


def select_rows(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Takes new entries `[B, ...]` in some rows, `[B, 1]`, bool, and old ones in the others."""
    return torch.where(rows.view(-1, *[1] * (new.ndim - 1)), new, old)
