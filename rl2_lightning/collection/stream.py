"""From trials to minibatches of windows."""

from collections.abc import Callable, Iterator, Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.collection.seeding import permutation


def cut_windows(
    trials: TensorDictBase,
    window: int,
    burn_in: int,
    state_keys: Sequence[str],
    tasks: TensorDictBase | None = None,
) -> TensorDict:
    """Cuts trials into windows, each with the steps before it as burn-in.

    Every step of a trial lies in exactly one window. The last window of a trial is filled up with
    steps that are masked out; the burn-in of a trial's first window is empty, and marked so.

    Args:
        trials: `[B, T]`, with the state of the memory at each step.
        window: W, length of a window in env steps.
        burn_in: b, length of the burn-in in env steps, at most W.
        state_keys: names of the tensors of the memory's state.
        tasks: the parameters of the trials' tasks, `[B]`, where the learner reads them.

    Returns:
        `[B * ceil(T / W)]` windows with the entries `window` `[W]`, `memory_state`, where they are
        given the parameters of the `task`, and, where b > 0, `burn_in` `[b]`, `burn_in_state` and
        `has_burn_in` `[1]`.
    """
    num_trials, length = trials.batch_size
    starts = torch.arange(0, length, window, device=trials.device)
    count = num_trials * len(starts)
    steps = trials.exclude(*state_keys)
    states = trials.select(*state_keys)

    def at(index: Tensor) -> TensorDictBase:
        return steps[:, index.clamp(0, length - 1).flatten()].reshape(count, index.shape[1])

    index = starts.unsqueeze(1) + torch.arange(window, device=starts.device)
    windows = at(index) if len(starts) > 1 else steps.copy()
    if length % window:
        inside = (index < length).repeat(num_trials, 1).unsqueeze(-1)
        windows.set(keys.MASK, windows.get(keys.MASK) & inside)
    minibatch = {keys.WINDOW: windows, keys.MEMORY_STATE: states[:, starts].reshape(count)}
    if tasks is not None:
        minibatch[keys.TASK] = tasks.repeat_interleave(len(starts))
    if burn_in:
        first = starts - burn_in
        before = first.unsqueeze(1) + torch.arange(burn_in, device=starts.device)
        minibatch[keys.BURN_IN] = at(before)
        minibatch[keys.BURN_IN_STATE] = states[:, first.clamp(min=0)].reshape(count)
        has_burn_in = (starts > 0).repeat(num_trials).unsqueeze(1)
        return TensorDict({**minibatch, keys.HAS_BURN_IN: has_burn_in}, batch_size=[count])
    return TensorDict(minibatch, batch_size=[count])


class TrialStream:
    """The minibatches of one iteration; iterating over it collects the trials first.

    It has a length, for Lightning would otherwise fetch the next iteration's data before this
    one's last update.

    Args:
        collect: gathers the windows `[N]` of the current iteration.
        shuffle_seed: the seed of the order of an epoch, from its index.
        num_epochs: passes over the windows.
        num_minibatches: minibatches of a pass; divides N.
    """

    def __init__(
        self,
        collect: Callable[[], TensorDictBase],
        shuffle_seed: Callable[[int], int],
        *,
        num_epochs: int,
        num_minibatches: int,
    ) -> None:
        self._collect = collect
        self._shuffle_seed = shuffle_seed
        self._num_epochs = num_epochs
        self._num_minibatches = num_minibatches

    def __len__(self) -> int:
        return self._num_epochs * self._num_minibatches

    def __iter__(self) -> Iterator[TensorDictBase]:
        windows = self._collect()
        device = windows.get(keys.WINDOW).get(keys.MASK).device
        for epoch in range(self._num_epochs):
            order = permutation(len(windows), self._shuffle_seed(epoch), device)
            for index in order.chunk(self._num_minibatches):
                yield windows[index]
