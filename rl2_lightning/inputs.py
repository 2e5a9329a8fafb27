"""The RL² inputs: what a player is shown at each step of a trial (arXiv 1611.02779, section 2.2).

They are the same whether a trial is collected, evaluated or played by a deployed agent.
"""

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
            start it is `no_action`: the number of actions, or zeros.
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


def first_inputs(observation: Observation, no_action: Tensor) -> Inputs:
    """What is shown where a trial begins.

    Args:
        observation: of the first episode, `[B, *observation]`.
        no_action: what stands for an action where none was taken, `[B]` or `[B, A]`.
    """
    zero = torch.zeros(len(no_action), 1, device=no_action.device)
    nothing = tree_map(torch.zeros_like, observation)
    return Inputs(observation, no_action, zero, torch.ones_like(zero), nothing)


def select_rows(rows: Tensor, new: Observation, old: Observation) -> Observation:
    """Takes the new observation in some rows, `[B, 1]`, bool, and the old one in the others."""

    def select(one: Tensor, other: Tensor) -> Tensor:
        return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), one, other)

    if isinstance(new, Tensor) and isinstance(old, Tensor):
        return select(new, old)
    selected: Observation = tree_map(select, new, old)
    return selected
