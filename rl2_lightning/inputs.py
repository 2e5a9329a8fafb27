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
    """What a player is shown before a step: for one step `[B]`, or for a window `[B, T]`.

    Attributes:
        observation: `[B, *observation]`.
        previous_action: the action as taken: `[B]`, int64; `[B, A]`, int64, for several discrete
            numbers; or `[B, A]`, float32. At a trial's start it is `no_action`.
        previous_reward: `[B, 1]`, float32; 0 at a trial's start.
        previous_done: `[B, 1]`, float32; 1 where an episode begins, including the first of a trial.
        previous_observation: the observation in which the previous action was taken, of the form of
            `observation`; zeros at a trial's start.
    """

    observation: Observation
    previous_action: Tensor
    previous_reward: Tensor
    previous_done: Tensor
    previous_observation: Observation


def first_inputs(observation: Observation, action: Tensor) -> Inputs:
    """The inputs at the start of a trial.

    Args:
        observation: first observation of the first episode, `[B, *observation]`.
        action: the placeholder for the previous action, as `no_action` returns it.
    """
    zero = torch.zeros(action.shape[0], 1, device=action.device)
    nothing = tree_map(torch.zeros_like, observation)
    return Inputs(observation, action, zero, torch.ones_like(zero), nothing)


def next_inputs(
    before: Inputs, action: Tensor, observation: Observation, reward: Tensor, done: Tensor
) -> Inputs:
    """The inputs after a step.

    Args:
        before: the inputs before the step.
        action: the action taken, `[B]` or `[B, A]`.
        observation: `[B, *observation]`; after the end of an episode, the first of the next one.
        reward: `[B, 1]`, float32.
        done: whether the step ended an episode, `[B, 1]`.
    """
    return Inputs(observation, action, reward, done.float(), before.observation)


def no_action(
    num: int, placeholder: int | Sequence[int] | Sequence[float], device: torch.device | None
) -> Tensor:
    """The placeholder for the previous action where none was taken.

    Args:
        num: B.
        placeholder: the number of values of a discrete action; those of each of A discrete numbers;
            or the middle of the bounds of A continuous numbers.
        device: device of the result.

    Returns:
        `[B]`, int64, or `[B, A]`, int64 or float32.
    """
    if isinstance(placeholder, int):
        return torch.full((num,), placeholder, device=device)
    return torch.tensor(placeholder, device=device).expand(num, -1)


def select_rows(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Take new entries `[B, ...]` in the given rows, `[B, 1]`, bool, and old ones elsewhere."""
    return torch.where(rows.view(-1, *[1] * (new.ndim - 1)), new, old)
