"""The finite-horizon Gittins index of an arm with normal rewards of known noise."""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl2_lightning.families.bandits.policies import Tally
from rl2_lightning.families.cache import cached_array
from rl2_lightning.progress import track_slow

WIDTH = 8.0  # of the grid to either side, in posterior standard deviations
NUM_POINTS = 401
NODES = np.linspace(-5, 5, 101)  # Gauss-Hermite nodes would not be better: the value has a kink


class ExplorationBonuses:
    """The difference of an arm's Gittins index and its posterior mean.

    The index of an arm is the highest price per pull at which a player with only that arm, free to
    stop at any time before the trial ends, would still pull it (Gittins, 1979). A normal posterior
    is shifted with its mean, and so is the index: the difference depends only on the pulls of the
    arm and the pulls that are left.

    The table is computed at first use, in seconds for 100 pulls, and cached on disk.

    Args:
        num_pulls: length of a trial, in pulls.
        noise: standard deviation of a reward around its arm's mean.
    """

    def __init__(self, num_pulls: int, noise: float) -> None:
        self.num_pulls = num_pulls
        self.noise = noise

    @cached_property
    def table(self) -> Tensor:
        """Row m - 1 for m pulls left, column n for n pulls seen; see `bonus_table`."""
        table = cached_array(
            f"gaussian-gittins-{self.num_pulls}-pulls-noise-{self.noise!r}",
            (self.num_pulls, self.num_pulls),
            lambda: bonus_table(self.num_pulls, self.noise),
        )
        return torch.from_numpy(table)

    def before_next_pull(self, tally: Tally) -> Tensor:
        """Look up the bonus to add to each posterior mean, `[B, K]`, float32."""
        left = self.num_pulls - tally.next_pull(self.num_pulls)
        return self.table[left - 1].to(tally.pulls.device)[tally.pulls.long()]


def bonus_table(num_pulls: int, noise: float) -> npt.NDArray[np.float32]:
    """Compute index minus mean for every number of pulls left and pulls seen.

    With m pulls left and an arm of n pulls, whose mean is y above the price, the value of
    continuing is W_m(y, n) = y + E V_{m-1}(y + s_n Z, n + 1), with Z a standard normal variable, V
    = max(0, W) and s_n the standard deviation of the next mean. The bonus is -y at the root of W.
    Each n has a grid of its own, in units of the posterior standard deviation, which shrinks with
    n. The expectation is a sum over evenly spaced nodes.

    Args:
        num_pulls: N, length of a trial, in pulls.
        noise: standard deviation of a reward around its arm's mean; means are N(0, 1).

    Returns:
        Table with row m - 1 and column n, `[N, N]`, float32; 0 where m + n > N, which no trial
        reaches.
    """
    table = np.zeros((num_pulls, num_pulls), np.float32)
    variance = 1 / (1 + np.arange(num_pulls + 1) / noise**2)
    scale, spread = np.sqrt(variance), np.sqrt(variance[:-1] - variance[1:])
    units = np.linspace(-WIDTH, WIDTH, NUM_POINTS)
    density = np.exp(-(NODES**2) / 2)
    weights = density / density.sum()
    value = np.zeros((num_pulls + 1, NUM_POINTS))
    for left in track_slow(range(1, num_pulls + 1), f"Gittins bonuses of {num_pulls} pulls"):
        for seen in range(num_pulls - left + 1):
            excess = units * scale[seen]
            next_units = (excess[:, None] + spread[seen] * NODES) / scale[seen + 1]
            following = np.interp(next_units, units, value[seen + 1])
            # Far above the price, the arm is pulled to the end.
            sure = (left - 1) * next_units * scale[seen + 1]
            following = np.where(next_units > WIDTH, sure, following)
            going_on = excess + following @ weights
            # `going_on` grows with the excess and is negative at the grid's lower end.
            table[left - 1, seen] = -np.interp(0.0, going_on, excess)
            # Row `seen` is not read again in this round: only `seen - 1` reads it.
            value[seen] = np.maximum(going_on, 0)
    return table
