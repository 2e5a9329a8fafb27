"""Where a learner's minibatches come from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.data.seeding import permutation


class TrialSource(ABC):
    """Deals out the minibatches of an iteration; iterating over it begins one.

    It has a length, for Lightning would otherwise fetch the next iteration's data before this
    one's last update.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Minibatches of an iteration."""

    @abstractmethod
    def begin(self) -> None:
        """Begins an iteration: collects what it needs."""

    @abstractmethod
    def next(self) -> TensorDictBase:
        """The next minibatch of windows, `[N]`."""

    def feedback(self, indices: Tensor, priorities: Tensor) -> None:
        """Takes the priorities `[N]` with which windows are to come again, by their indices."""

    def __iter__(self) -> Iterator[TensorDictBase]:
        self.begin()
        for _ in range(len(self)):
            yield self.next()


class OnPolicySource(TrialSource):
    """The windows of this iteration's trials, several times over, each time in another order.

    Args:
        collect: gathers the windows `[N]` of the current iteration.
        shuffle_seed: the seed of the order of a pass, from its index.
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
        self._windows: TensorDictBase
        self._indices: list[Tensor] = []
        self._pass = 0

    def __len__(self) -> int:
        return self._num_epochs * self._num_minibatches

    def begin(self) -> None:
        """See `TrialSource.begin`."""
        self._windows = self._collect()
        self._indices, self._pass = [], 0

    def next(self) -> TensorDictBase:
        """See `TrialSource.next`."""
        if not self._indices:
            device = self._windows.get(keys.WINDOW).get(keys.MASK).device
            order = permutation(len(self._windows), self._shuffle_seed(self._pass), device)
            self._indices = list(order.chunk(self._num_minibatches))
            self._pass += 1
        return self._windows[self._indices.pop(0)]
