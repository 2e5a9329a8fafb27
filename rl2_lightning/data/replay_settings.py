"""Settings of replay buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

from torch import Tensor

from rl2_lightning.data.priority_sampler import PrioritySampler
from rl2_lightning.errors import UserError
from rl2_lightning.settings import Settings, between


@dataclass
class BufferSettings(Settings):
    """Settings of a replay buffer whose windows are drawn equally often.

    Attributes:
        capacity: maximum number of windows, over all ranks; the oldest are overwritten.
        batch_size: number of windows of a minibatch, over all ranks.
        folder: folder in which the buffer is mapped to files; None for a buffer in memory.
        stored: what the buffer holds, for error messages.
    """

    stored: ClassVar[str] = "windows"
    capacity: int = between(1, default=10_000)
    batch_size: int = between(1, default=64)
    folder: str | None = None

    def check(self) -> None:
        """See `Settings.check`."""
        if self.capacity < self.batch_size:
            raise UserError(
                f"learner.replay.capacity={self.capacity} is less than a minibatch of "
                f"learner.replay.batch_size={self.batch_size} {self.stored}: set "
                f"learner.replay.capacity={self.batch_size} or more"
            )

    def check_run(self, num_trials: Mapping[str, int], num_ranks: int) -> None:
        """Check that an iteration fits, and that all ranks draw minibatches of the same size.

        Args:
            num_trials: trials of an iteration over all ranks, by the field that sets them.
            num_ranks: number of ranks.

        Raises:
            UserError: it does not, or they would not.
        """
        name, num = max(num_trials.items(), key=itemgetter(1))
        if num > self.capacity:
            given = f"{name}={num}"
            if self.stored != "trials":
                given = f"at least one for each of {given} trials"
            raise UserError(
                f"learner.replay.capacity={self.capacity} is less than the {self.stored} of an "
                f"iteration, {given}: set learner.replay.capacity={num} or more"
            )
        if self.batch_size % num_ranks:
            nearest = max(1, round(self.batch_size / num_ranks)) * num_ranks
            raise UserError(
                f"learner.replay.batch_size={self.batch_size} does not divide into {num_ranks} "
                f"device(s): set learner.replay.batch_size={nearest}"
            )

    def make_sampler(self, capacity: int) -> PrioritySampler:
        """The sampler of a rank's buffer of `capacity` windows."""
        return PrioritySampler(capacity, priority_exponent=0, importance_exponent=0)


@dataclass
class ReplaySettings(BufferSettings):
    """Settings of a replay buffer whose windows are drawn by priority.

    Attributes:
        priority_exponent: a window is drawn with probability proportional to its priority to this
            power; 0 draws all windows equally often.
        importance_exponent: how far importance weights correct for that; with 1 completely.
        max_share: share of the largest error of a window in its priority; the rest is their mean.
    """

    priority_exponent: float = between(0, 10, default=0.9)
    importance_exponent: float = between(0, 1, default=0.6)
    max_share: float = between(0, 1, default=0.9)

    def make_sampler(self, capacity: int) -> PrioritySampler:
        """See `BufferSettings.make_sampler`."""
        return PrioritySampler(capacity, self.priority_exponent, self.importance_exponent)

    def priorities(self, errors: Tensor, mask: Tensor) -> Tensor:
        """The priorities of windows: a mixture of the largest and the mean error (R2D2, 2.3).

        Args:
            errors: absolute errors of the steps, `[N, W]`.
            mask: which steps count, `[N, W]`, bool.

        Returns:
            `[N]`, float32; 0 for a window without steps.
        """
        errors = errors.float().masked_fill(~mask, 0)
        mean = errors.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return self.max_share * errors.amax(dim=1) + (1 - self.max_share) * mean
