"""The counters of a run."""

from typing import Any

import torch
from torch import Tensor, nn


class Clock(nn.Module):
    """Counts iterations and env steps over all ranks; its counters are in the checkpoint.

    It counts an iteration when its trials are collected.
    """

    iterations_done: Tensor
    env_steps_done: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("iterations_done", "env_steps_done"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self._read: dict[str, _Reading] = {}

    @property
    def iterations(self) -> int:
        """The number of iterations whose trials have been collected."""
        return self._number("iterations_done")

    @property
    def env_steps(self) -> int:
        """The number of env steps collected on all ranks, without idle steps."""
        return self._number("env_steps_done")

    def tick(self, num_steps: Tensor) -> None:
        """Count an iteration.

        Args:
            num_steps: its env steps over all ranks, an integer `[]`.
        """
        iterations = self.iterations + 1
        self.env_steps_done += num_steps
        self.iterations_done += 1
        self._read["iterations_done"] = _Reading(self.iterations_done, iterations)

    def restart(self) -> None:
        """Reset both counters to 0."""
        self.env_steps_done.zero_()
        self.iterations_done.zero_()

    def __getstate__(self) -> dict[str, Any]:
        """The state without the numbers that were read, which a copy reads again."""
        return self.__dict__ | {"_read": {}}

    def _number(self, name: str) -> int:
        """The number in a counter; it is read once for each change, since a GPU has to wait."""
        counter = self.get_buffer(name)
        reading = self._read.get(name)
        if reading is None or not reading.is_of(counter):
            reading = self._read[name] = _Reading(counter, int(counter))
        return reading.number


class _Reading:
    """A number that was read from a counter, `[]`, while the counter had some version.

    Before each pass DDP copies the first rank's counters to the others without a new version. That
    changes none: the counters are the same on all ranks.
    """

    def __init__(self, counter: Tensor, number: int) -> None:
        self._counter, self._version = counter, _version_of(counter)
        self.number = number

    def is_of(self, counter: Tensor) -> bool:
        """Whether a counter still has this number: loading, for example, would change it."""
        version = _version_of(counter)
        return counter is self._counter and version is not None and version == self._version


def _version_of(counter: Tensor) -> int | None:
    """PyTorch's number of changes of a tensor in place; None if it does not count them."""
    return None if counter.is_inference() else counter._version
