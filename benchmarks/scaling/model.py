"""How long an iteration takes on N devices, from what was measured of one and of two."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lap:
    """The seconds of an iteration.

    Attributes:
        collect: of playing the trials.
        optimise: of all passes over the minibatches.
    """

    collect: float
    optimise: float

    @property
    def whole(self) -> float:
        """The seconds of both."""
        return self.collect + self.optimise


@dataclass(frozen=True)
class Terms:
    """The terms of T(N) = P + (C + L) / N + U S(N), in units of T(1).

    Attributes:
        alone: P, what each device does whatever its number of trials.
        collect: C, playing the trials.
        learn: L, forward and backward passes.
        updates: U, of an iteration.
        latency: of one message to another device.
        transfer: of sending all gradients to another device.
    """

    alone: float
    collect: float
    learn: float
    updates: int
    latency: float
    transfer: float

    @classmethod
    def of(cls, full: Lap, half: Lap, updates: int, empty: float, gradients: float) -> Terms:
        """The terms from measurements, in seconds.

        What half of the trials save, twice, is the part that is shared.

        Args:
            full: iterations of one device with all trials.
            half: with half of them.
            updates: U, of an iteration.
            empty: a sum of one number over two devices.
            gradients: a sum of all gradients over two devices.
        """
        collect = _shared(full.collect, half.collect)
        learn = _shared(full.optimise, half.optimise)
        times = (full.whole - collect - learn, collect, learn)
        alone, collect, learn = (one / full.whole for one in times)
        transfer = max(0.0, gradients - empty) / full.whole
        return cls(alone, collect, learn, updates, empty / 2 / full.whole, transfer)

    def sum_of_gradients(self, num_devices: int) -> float:
        """S(N): 2 (N - 1) messages in a ring, each with an Nth of the gradients.

        Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of
        workstations".
        """
        return 2 * (num_devices - 1) * (self.latency + self.transfer / num_devices)

    def iteration(self, num_devices: int, *, growing: bool) -> float:
        """T(N) / T(1), with as many trials as one device has, or N times as many."""
        trials = self.collect + self.learn
        share = trials if growing else trials / num_devices
        return self.alone + share + self.updates * self.sum_of_gradients(num_devices)

    def speed_up(self, num_devices: int, *, growing: bool) -> float:
        """Env steps per second, relative to one device."""
        work = num_devices if growing else 1
        return work / self.iteration(num_devices, growing=growing)


def _shared(full: float, half: float) -> float:
    """The part of a time that is proportional to the number of trials."""
    return min(full, max(0.0, 2 * (full - half)))
