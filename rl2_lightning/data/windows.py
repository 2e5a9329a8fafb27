"""Cut trials into windows."""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.memories.memory import State
from rl2_lightning.inputs import Inputs, Observation


def window_starts(num_steps: int, window: int) -> range:
    """The indices of the first steps of a trial's windows."""
    return range(0, num_steps, window)


def state_steps(num_steps: int, window: int, burn_in: int) -> list[int]:
    """The steps before which a memory's state is needed: where windows or their burn-ins begin.

    Args:
        num_steps: T, maximum number of env steps of a trial.
        window: W, length of a window in env steps.
        burn_in: b, length of the burn-in in env steps, at most W.
    """
    return [max(0, start - burn_in) for start in window_starts(num_steps, window)]


def cut_windows(
    trials: TensorDictBase,
    num_steps: int,
    window: int,
    burn_in: int,
    kept: Sequence[Any] = (),
    num_following: int = 0,
) -> TensorDict:
    """Cut trials into windows, each with the steps before it as burn-in.

    Every step of a trial is in exactly one window. The last window of a trial is padded with masked
    steps; the burn-in of a trial's first window is marked as missing.

    Args:
        trials: `[B]`, with the steps `[B, T]`, T being at least `num_steps`, and with states of
            memories, `[B, K]`, before each of the K steps that `state_steps` returns.
        num_steps: number of steps of each trial that count.
        window: W, length of a window in env steps.
        burn_in: b, length of the burn-in in env steps, at most W.
        kept: entries of a trial, `[B]`, that are copied to each of its windows.
        num_following: n, number of steps after a window that are added to it; beyond the end of the
            trial they are masked.

    Returns:
        `[B * K]` windows with the entries `window` `[W]`, the states, the `kept` entries, and, if b
        > 0, `burn_in` `[b]` and `has_burn_in` `[1]`, and, if n > 0, `following` `[n]`.
    """
    steps = trials.get(keys.STEPS)
    num_trials = len(trials)
    starts = torch.arange(0, num_steps, window, device=steps.device)
    count = num_trials * len(starts)

    def at(index: Tensor) -> TensorDictBase:
        # A trial that is a cut of a longer life has one more step, to bootstrap from.
        last = steps.shape[1] - 1
        found = steps[:, index.clamp(0, last).flatten()].reshape(count, index.shape[1])
        inside = (index < num_steps).repeat(num_trials, 1).unsqueeze(-1)
        return found.set(keys.MASK, found.get(keys.MASK) & inside)

    index = starts.unsqueeze(1) + torch.arange(window, device=starts.device)
    windows = at(index) if len(starts) > 1 else steps[:, :num_steps].copy()
    minibatch: dict[str, Any] = {keys.WINDOW: windows}
    if num_following:
        after = torch.arange(window, window + num_following, device=starts.device)
        minibatch[keys.FOLLOWING] = at(starts.unsqueeze(1) + after)
    for name in (keys.MEMORY_STATE, keys.CRITIC_STATE):
        states = trials.get(name, None)
        if states is not None:
            minibatch[name] = states.reshape(count)
    for name in kept:
        minibatch[name] = trials.get(name).repeat_interleave(len(starts))
    if burn_in:
        before = (starts - burn_in).clamp(min=0).unsqueeze(1)
        minibatch[keys.BURN_IN] = at(before + torch.arange(burn_in, device=starts.device))
        has_burn_in = (starts > 0).repeat(num_trials).unsqueeze(1)
        minibatch[keys.HAS_BURN_IN] = has_burn_in
    return TensorDict(minibatch, batch_size=[count], device=steps.device)


def without_shared_states(windows: TensorDictBase) -> TensorDictBase:
    """Leave out the states, of windows `[N]`, that are in memory once for all.

    They are those at the start of trials, which the memory returns again; a minibatch would hold
    copies of them.
    """
    shared = [
        name
        for name in (keys.MEMORY_STATE, keys.CRITIC_STATE)
        if (states := windows.get(name, None)) is not None and are_shared(states)
    ]
    return windows.exclude(*shared) if shared else windows


def are_shared(states: TensorDictBase) -> bool:
    """Whether states, `[N, ...]`, are in memory once for all; see `Memory.initial_state`."""
    return all(tensor.stride(0) == 0 for tensor in state_of(states))


def inputs_of(steps: TensorDictBase) -> Inputs:
    """The agent's inputs in some steps, `[N]` or `[N, W]`."""

    def observation(name: str) -> Observation:
        entry = steps.get(name)
        return entry if isinstance(entry, Tensor) else dict(entry.items())

    return Inputs(
        observation(keys.OBSERVATION),
        steps.get(keys.PREVIOUS_ACTION),
        steps.get(keys.PREVIOUS_REWARD),
        steps.get(keys.PREVIOUS_DONE),
        observation(keys.PREVIOUS_OBSERVATION),
    )


def state_of(states: TensorDictBase) -> State:
    """The tensors of a memory's state, from a TensorDict that stores them by number."""
    return tuple(states.get(str(number)) for number in range(len(states.keys())))


def as_tensordict(state: State, batch_size: Sequence[int]) -> TensorDict:
    """A TensorDict that stores the tensors of a memory's state by number; see `state_of`."""
    return TensorDict({str(i): tensor for i, tensor in enumerate(state)}, list(batch_size))
