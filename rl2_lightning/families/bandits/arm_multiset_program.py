"""Backward induction over the multiset of the arms' counts, for short trials of many arms."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl2_lightning.families.bandits.gittins import state_number
from rl2_lightning.families.bandits.policies import Tally

Integers = npt.NDArray[np.int64]


@dataclass
class _Layer:
    """The states before one pull.

    Attributes:
        key: identifies the state, sorted, `[S]`.
        arms: number of each arm's state, sorted along each row, `[S, A]`.
    """

    key: Integers
    arms: Integers


class ArmMultisetProgram:
    """The Bayes-optimal rule for independent arms with the prior Beta(1, 1).

    Arms are exchangeable: the state before a pull is the multiset of (successes, failures) over the
    arms, of which at most `num_pulls` are ever pulled. A state's key is the sum of a random weight
    for each arm's state (zero for an unpulled arm), so that a batch of bandits finds its states
    with one gather and one binary search. The keys of all reachable states are checked to be
    distinct.

    Args:
        num_arms: K, the number of arms.
        num_pulls: length of a trial, in pulls.

    Attributes:
        value: exact expected return of a trial.
    """

    def __init__(self, num_arms: int, num_pulls: int) -> None:
        self._pulls_of, self._successes_of = _arm_states(num_pulls)
        # Small enough that no sum over the pulled arms overflows.
        self._weight = np.random.default_rng(0).integers(
            2**62 // num_pulls, size=len(self._pulls_of)
        )
        self._weight[0] = 0
        layers = [_Layer(np.zeros(1, np.int64), np.zeros((1, min(num_arms, num_pulls)), np.int64))]
        for _ in range(num_pulls - 1):
            layers.append(self._successors(layers[-1]))
        self._best: list[tuple[Tensor, Tensor]] = []  # keys of a layer, best arm's state of each
        value, later = np.zeros(0), None
        for layer in reversed(layers):
            best, value = self._solve(layer, later, value)
            self._best.append((torch.from_numpy(layer.key), torch.from_numpy(best)))
            later = layer
        self._best.reverse()
        self.value = float(value[0])

    def best_arm(self, tally: Tally) -> Tensor:
        """Look up the optimal arm of every bandit, `[B]`, int64."""
        device = tally.pulls.device
        keys, best = (table.to(device) for table in self._best[tally.pull])
        arms = state_number(tally)
        weight = torch.from_numpy(self._weight).to(device)
        rows = torch.searchsorted(keys, weight[arms].sum(1))
        # Arms in the same state are equally good: choose the first.
        return (arms == best[rows].unsqueeze(1)).int().argmax(1)

    def _after(self, arms: Integers, success: bool) -> Integers:
        """Return the number of each arm's state after one more pull of it."""
        return arms + self._pulls_of[arms] + (2 if success else 1)

    def _successors(self, layer: _Layer) -> _Layer:
        """List the states that one pull leads to."""
        rows, slots = np.nonzero(_distinct(layer.arms))
        arms = layer.arms[np.tile(rows, 2)]
        pulled = layer.arms[rows, slots]
        arms[np.arange(len(arms)), np.tile(slots, 2)] = np.concatenate(
            (self._after(pulled, True), self._after(pulled, False))
        )
        arms.sort(axis=1)
        key, first, inverse = np.unique(
            self._weight[arms].sum(1), return_index=True, return_inverse=True
        )
        if not np.array_equal(arms[first][inverse], arms):
            raise AssertionError("two states share a key: draw the weights from another seed")
        return _Layer(key, arms[first])

    def _solve(
        self, layer: _Layer, later: _Layer | None, later_value: npt.NDArray[np.float64]
    ) -> tuple[Integers, npt.NDArray[np.float64]]:
        """Return the best arm's state and the value of each state, both `[S]`."""
        mean = (self._successes_of[layer.arms] + 1) / (self._pulls_of[layer.arms] + 2)
        value = mean
        if later is not None:
            others = layer.key[:, None] - self._weight[layer.arms]
            after = [
                later_value[
                    np.searchsorted(later.key, others + self._weight[self._after(layer.arms, s)])
                ]
                for s in (True, False)
            ]
            value = mean * (1 + after[0]) + (1 - mean) * after[1]
        slot = value.argmax(1)[:, None]
        return (
            np.take_along_axis(layer.arms, slot, 1)[:, 0],
            np.take_along_axis(value, slot, 1)[:, 0],
        )


def _arm_states(max_pulls: int) -> tuple[Integers, Integers]:
    """Return pulls and successes of an arm by the number of its state, up to `max_pulls` pulls."""
    pulls = np.repeat(np.arange(max_pulls + 1), np.arange(1, max_pulls + 2))
    return pulls, np.arange(len(pulls)) - pulls * (pulls + 1) // 2


def _distinct(sorted_rows: Integers) -> npt.NDArray[np.bool_]:
    """Mark the first of each run of equal entries in each row."""
    first = np.ones_like(sorted_rows[:, :1], dtype=np.bool_)
    return np.concatenate((first, sorted_rows[:, 1:] != sorted_rows[:, :-1]), axis=1)
