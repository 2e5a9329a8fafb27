"""Prepare windows of trials for losses."""

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import features_only
from rl2_lightning.cuda_graphs import is_recorded
from rl2_lightning.data.windows import inputs_of, state_of
from rl2_lightning.inputs import select_rows
from rl2_lightning.learners.credit import valued_steps
from rl2_lightning.learners.critic import Critic


def window_features(
    network: Agent | Critic,
    minibatch: TensorDictBase,
    state_key: str = keys.MEMORY_STATE,
    *,
    with_following: bool = False,
) -> Tensor:
    """Pass windows through a memory, starting from the states stored at collection.

    Where none is stored, the windows begin with their trials.

    A burn-in is passed first, with the current weights and without gradients.

    Args:
        network: the network with the encoder and the memory.
        minibatch: minibatch of windows, `[N]`.
        state_key: entry with the states of its memory.
        with_following: whether to go on with the n steps after the windows, and to compute the
            features of the first step after a cut, too.

    Returns:
        The features, `[N, W, H]`, or `[N, W + n, H]`.
    """
    stored = minibatch.get(state_key, None)
    state = network.initial_state(len(minibatch)) if stored is None else state_of(stored)
    burn_in = minibatch.get(keys.BURN_IN, None)
    if burn_in is not None:
        with torch.no_grad():
            _, warmed = network.unroll(
                inputs_of(burn_in), state, playing=_unless_recorded(burn_in.get(keys.MASK))
            )
        # The first window of a trial has no burn-in: its stored state is that of the trial's start.
        was_warmed = minibatch.get(keys.HAS_BURN_IN)
        pairs = zip(warmed, state, strict=True)
        state = tuple(select_rows(was_warmed, new, stored) for new, stored in pairs)
    steps = with_following_steps(minibatch) if with_following else minibatch.get(keys.WINDOW)
    playing = valued_steps(steps) if with_following else steps.get(keys.MASK)
    with features_only():
        features, _ = network.unroll(inputs_of(steps), state, playing=_unless_recorded(playing))
    return features


def _unless_recorded(playing: Tensor) -> Tensor | None:
    """Where steps count; None for everywhere, as it is known where operations are recorded."""
    return None if is_recorded() else playing


def with_following_steps(minibatch: TensorDictBase) -> TensorDictBase:
    """The windows and the steps after them, `[N, W + n]`."""
    return torch.cat([minibatch.get(keys.WINDOW), minibatch.get(keys.FOLLOWING)], dim=1)


def line_up(entry: Tensor, mask: Tensor | None) -> Tensor:
    """The steps of windows that count, concatenated, `[M, ...]`.

    Args:
        entry: `[N, W, ...]`.
        mask: which steps count, `[N, W]`, bool; None for all.
    """
    if mask is not None:
        return entry[mask]
    # Features are stored time-major: flattening them in this order avoids a copy.
    return entry.transpose(0, 1).flatten(0, 1)


def line_up_entries(window: TensorDictBase, entries: Mapping[Any, Tensor]) -> TensorDict:
    """The steps of windows that count, concatenated, `[M]`.

    Args:
        window: the windows' steps, `[N, W]`, with the mask.
        entries: the entries to line up, `[N, W, ...]` each, by key.
    """
    mask = window.get(keys.MASK).squeeze(-1)
    # All are known to count where operations are recorded.
    counted = None if is_recorded() or mask.all() else mask
    steps = {name: line_up(entry, counted) for name, entry in entries.items()}
    return TensorDict(steps, batch_size=[len(next(iter(steps.values())))])
