"""Replay: minibatches of past windows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data.replay_buffers import (
    LazyMemmapStorage,
    LazyTensorStorage,
    ReplayBuffer,
    Storage,
)

from rl2_lightning import keys
from rl2_lightning.data.replay_files import ReplayFiles
from rl2_lightning.data.replay_settings import BufferSettings
from rl2_lightning.data.sources import OnPolicySource, TrialSource
from rl2_lightning.errors import UserError

DAMAGED = (
    "the checkpoint's replay buffer does not fit learner.replay of this run, or is damaged: set "
    "the same capacity and folder, or start a new training with start_from"
)
NUM_FILES = 3  # of a buffer on disk: itself, the latest copy, and the one before


class ReplaySource(TrialSource):
    """Stores the windows of each iteration, and draws minibatches of past ones.

    Args:
        collect: returns the windows `[N]` of the current iteration; whole trials are windows, too.
        draw_seed: maps the index of a draw in an iteration to its seed.
        settings: settings of the buffer.
        num_minibatches: minibatches of an iteration.
        num_ranks: number of processes, each of which has a buffer of its own trials.
        num_local_ranks: number of them on this machine.
    """

    def __init__(
        self,
        collect: Callable[[], TensorDictBase],
        draw_seed: Callable[[int], int],
        settings: BufferSettings,
        *,
        num_minibatches: int,
        num_ranks: int = 1,
        num_local_ranks: int = 1,
    ) -> None:
        self._collect = collect
        self._draw_seed = draw_seed
        self._settings = settings
        self._num_minibatches = num_minibatches
        self._capacity = settings.capacity // num_ranks
        self._batch_size = settings.batch_size // num_ranks
        self._num_ranks, self._num_local_ranks = num_ranks, num_local_ranks
        self._buffer: ReplayBuffer | None = None
        self._shapes: Any = None
        self._mapped: tempfile.TemporaryDirectory[str] | None = None
        self._files = None if settings.folder is None else ReplayFiles(settings.folder)
        self._state: dict[str, Any] = {}
        self._num_stored = 0
        self._drawn = 0

    def __len__(self) -> int:
        return self._num_minibatches

    def begin(self) -> None:
        """See `TrialSource.begin`."""
        self.store(self._collect())

    def store(self, windows: TensorDictBase) -> None:
        """Add the windows of an iteration, in place of the oldest ones.

        Windows of another length than those before, in a curriculum, empty the buffer. Windows
        after the end of their trial, without a step, are left out.

        Args:
            windows: `[N]`.

        Raises:
            UserError: an iteration has more windows than the buffer, or the buffer does not fit
                into memory or onto the disk.
        """
        self._drawn = 0
        if len(windows) > self._capacity:
            raise UserError(
                f"an iteration has {len(windows)} windows for each device, and "
                f"learner.replay.capacity={self._settings.capacity} leaves room for "
                f"{self._capacity}: set learner.replay.capacity={len(windows) * self._num_ranks} "
                "or more, or lower collection.num_trials"
            )
        windows = windows[windows.get(keys.WINDOW).get(keys.MASK).flatten(1).any(dim=1)]
        shapes = _shapes_of(windows)
        if self._buffer is None or shapes != self._shapes:
            self._buffer = self._mapped = None  # freed before the next one is allocated
            self._buffer, self._shapes = self._make_buffer(windows), shapes
            if self._state:
                self._restore(self._state, windows)
                self._state = {}
        self._buffer.extend(windows)
        self._num_stored += len(windows)

    def next(self) -> TensorDictBase:
        """A minibatch of windows `[N]`, with `index` and `weight`."""
        assert self._buffer is not None, "begin() has to be called first"
        self._buffer.set_rng(torch.Generator().manual_seed(self._draw_seed(self._drawn)))
        self._drawn += 1
        windows, info = self._buffer.sample(self._batch_size, return_info=True)
        device = windows.get(keys.WINDOW).get(keys.MASK).device
        windows.set(keys.INDEX, torch.as_tensor(info["index"]).to(device))
        return windows.set(keys.WEIGHT, info[keys.WEIGHT].to(device))

    def feedback(self, indices: Tensor, priorities: Tensor) -> None:
        """See `TrialSource.feedback`."""
        assert self._buffer is not None, "there are windows to give priorities to"
        self._buffer.sampler.update_priority(indices.cpu(), priorities.detach().cpu())

    def state_dict(self) -> dict[str, Any]:
        """The stored windows, their priorities, and where the next ones go.

        The windows of a buffer that is mapped to files are copied to files, and named here.
        """
        if self._buffer is None:
            return self._state
        windows = self._buffer[:]
        if self._files is None:
            stored: dict[str, Any] = {"windows": windows.to_dict()}
        else:
            name = self._files.write(windows, self._num_stored)
            stored = {"files": name, "num_windows": len(windows)}
        return {
            **stored,
            "num_stored": self._num_stored,
            "next": self._buffer.writer.state_dict(),
            **self._buffer.sampler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the first windows show the shapes of the buffer."""
        self._state = state_dict

    def _make_buffer(self, windows: TensorDictBase) -> ReplayBuffer:
        """An empty buffer for windows like these."""
        settings = self._settings
        self._require_room(windows.bytes() // max(1, len(windows)) * self._capacity)
        if settings.folder is None:
            storage: Storage = LazyTensorStorage(self._capacity)
        else:
            self._mapped = tempfile.TemporaryDirectory(prefix="mapped-", dir=settings.folder)
            storage = LazyMemmapStorage(
                self._capacity, scratch_dir=self._mapped.name, existsok=True
            )
        sampler = settings.make_sampler(self._capacity)
        return ReplayBuffer(storage=storage, sampler=sampler, batch_size=self._batch_size)

    def _require_room(self, num_bytes: int) -> None:
        """Check that the buffers of this machine's ranks fit, and on disk two copies of each.

        Raises:
            UserError: they do not.
        """
        folder = self._settings.folder
        if folder is None:
            available, place = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "memory"
            needed = num_bytes * self._num_local_ranks
        else:
            Path(folder).mkdir(parents=True, exist_ok=True)
            available, place = shutil.disk_usage(folder).free, folder
            needed = NUM_FILES * num_bytes * self._num_local_ranks
        if needed > available:
            raise UserError(
                f"learner.replay.capacity={self._settings.capacity} windows take "
                f"{needed / 2**30:.3g} GiB on this machine, and {place} has "
                f"{available / 2**30:.3g} GiB: lower it"
            )

    def _restore(self, state: Mapping[str, Any], like: TensorDictBase) -> None:
        """Fill the buffer from a state of the same run, with windows like the given ones.

        Raises:
            UserError: the state is not that of such a buffer.
        """
        assert self._buffer is not None
        try:
            priorities, cursor = state["priorities"], state["next"]["_cursor"]
            num_stored, name = int(state["num_stored"]), state.get("files")
            windows = _as_windows(state["windows"]) if name is None else None
            num = int(state["num_windows"]) if windows is None else len(windows)
            is_whole = (
                priorities.shape == (self._capacity,)
                and bool((priorities >= 0).all())
                and cursor in range(self._capacity)
                and num in range(1, self._capacity + 1)
                and (name is None) == (self._files is None)
            )
        except Exception as error:  # a damaged state can raise any exception
            raise UserError(DAMAGED) from error
        if not is_whole:
            raise UserError(DAMAGED)
        if windows is None:
            assert self._files is not None
            windows = self._files.read(str(name), num, like)
        if _shapes_of(windows) != self._shapes:
            return  # the uninterrupted run would have emptied its buffer, too
        self._buffer.extend(windows)
        self._buffer.writer.load_state_dict(state["next"])
        self._buffer.sampler.load_state_dict(state)
        self._num_stored = num_stored


class MixedSource(TrialSource):
    """The windows of this iteration, and between them minibatches of past trials.

    Args:
        fresh: the windows of this iteration, which are collected first.
        replayed: what is kept of past iterations and of this one.
    """

    def __init__(self, fresh: OnPolicySource, replayed: ReplaySource) -> None:
        self._fresh, self._replayed = fresh, replayed
        self._done = 0

    def __len__(self) -> int:
        return len(self._fresh) + len(self._replayed)

    def begin(self) -> None:
        """See `TrialSource.begin`."""
        self._fresh.begin()
        self._replayed.begin()
        self._done = 0

    def next(self) -> TensorDictBase:
        """The next minibatch; replayed ones, with an `index`, are spread evenly."""
        before, after = ((self._done + step) * len(self._replayed) // len(self) for step in (0, 1))
        self._done += 1
        return self._fresh.next() if before == after else self._replayed.next()

    def feedback(self, indices: Tensor, priorities: Tensor) -> None:
        """See `TrialSource.feedback`."""
        self._replayed.feedback(indices, priorities)

    def state_dict(self) -> dict[str, Any]:
        """The state of the replayed windows."""
        return self._replayed.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the replayed windows."""
        self._replayed.load_state_dict(state_dict)


def _shapes_of(windows: TensorDictBase) -> dict[Any, torch.Size]:
    """The shapes of a window's entries."""
    return {name: entry.shape[1:] for name, entry in windows.items(True, True)}


def _as_windows(entries: dict[str, Any]) -> TensorDict:
    """Windows from nested dictionaries, with the batch sizes of their parts."""
    num = len(entries[keys.WINDOW][keys.MASK])
    windows = TensorDict(entries, [num])
    for name in (keys.WINDOW, keys.BURN_IN, keys.FOLLOWING):
        part = windows.get(name, None)
        if part is not None:
            part.batch_size = part.get(keys.MASK).shape[:2]
    return windows
