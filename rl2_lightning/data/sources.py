"""Sources of a learner's minibatches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.data.seeding import permutation
from rl2_lightning.data.windows import without_shared_states
from rl2_lightning.errors import UserError


class TrialSource(ABC):
    """Yields the minibatches of an iteration; iterating over it begins a new iteration.

    It has a length, because otherwise Lightning would fetch the next iteration's data before this
    one's last update.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of minibatches of an iteration."""

    @abstractmethod
    def begin(self) -> None:
        """Begin an iteration: collect its trials."""

    @abstractmethod
    def next(self) -> TensorDictBase:
        """The next minibatch of windows, `[N]`."""

    def feedback(self, indices: Tensor, priorities: Tensor) -> None:
        """Receive new priorities `[N]` of windows, for replay, with the windows' indices."""

    def state_dict(self) -> dict[str, Any]:
        """The state needed to resume, as tensors and plain containers."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""

    def __iter__(self) -> Iterator[TensorDictBase]:
        self.begin()
        for _ in range(len(self)):
            yield self.next()


class OnPolicySource(TrialSource):
    """Yields the windows of this iteration's trials several times, each time in another order.

    Args:
        collect: returns the windows `[N]` of the current iteration.
        shuffle_seed: maps the index of a pass to the seed of its order.
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
        self._windows: TensorDictBase | None = None
        self._indices: list[Tensor] = []
        self._pass = 0

    def __len__(self) -> int:
        return self._num_epochs * self._num_minibatches

    @property
    def windows(self) -> TensorDictBase:
        """All windows of this iteration, `[N]`, in the order of collection."""
        assert self._windows is not None, "begin() has to be called first"
        return self._windows

    def begin(self) -> None:
        """See `TrialSource.begin`.

        Raises:
            UserError: the windows do not divide into the minibatches.
        """
        self._windows = None  # freed before the next are collected, since memory fits one iteration
        self._indices, self._pass = [], 0
        windows = self._collect()
        if len(windows) % self._num_minibatches:
            raise UserError(
                f"the {len(windows)} windows of an iteration do not divide into "
                f"{self._num_minibatches} minibatches: set collection.num_trials, and "
                "collection.curriculum.*.num_trials, to a multiple of "
                f"{self._num_minibatches} trials for each device"
            )
        self._windows = windows

    def next(self) -> TensorDictBase:
        """See `TrialSource.next`."""
        windows = without_shared_states(self.windows)
        if not self._indices:
            device = windows.get(keys.WINDOW).get(keys.MASK).device
            order = permutation(len(windows), self._shuffle_seed(self._pass), device)
            self._indices = list(order.chunk(self._num_minibatches))
            self._pass += 1
        return windows[self._indices.pop(0)]
