"""The Gittins index of a Bernoulli arm with the prior Beta(1, 1), for a finite horizon."""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl2_lightning.families.bandits.policies import BanditPlayer, Tally, best_arm
from rl2_lightning.families.cache import cached_array
from rl2_lightning.inputs import Observation
from rl2_lightning.progress import track_slow

NUM_PRICES = 801  # resolution of the index: 1/800
PRICES_AT_ONCE = 8  # so that the working set of 500 pulls is close to the cache's size


class GittinsIndex(BanditPlayer):
    """Pulls the arm of the highest finite-horizon Gittins index (Gittins, 1979).

    The index of an arm is the highest price per pull at which a player with only that arm, free to
    stop at any time before the trial ends, would still pull it. The rule is close to the optimum
    but not optimal: that holds only for an infinite, discounted horizon.

    The table is computed once and cached on disk. Time and size grow with the cube of the number of
    pulls: less than a second for 100, a minute and 42 MB for 500 on one core.

    Args:
        num_arms: K, the number of arms.
        num_pulls: length of a trial, in pulls.
        discount: discount of one pull, or the probability with which a trial goes on after it.
    """

    def __init__(self, num_arms: int, num_pulls: int, discount: float = 1.0) -> None:
        super().__init__(num_arms)
        self.num_pulls = num_pulls
        self.discount = discount

    def prepare(self) -> None:
        """Compute the table, or read it from the cache."""
        _ = self._table

    def choose(self, memory: Tally, observation: Observation, generator: torch.Generator) -> Tensor:
        """Pick the arm of the highest index."""
        pull = memory.next_pull(self.num_pulls)
        start = _num_states_before(pull)
        indices = self._table[start : start + _num_states(pull)].to(memory.pulls.device)
        return best_arm(indices.take(state_number(memory)))

    @cached_property
    def _table(self) -> Tensor:
        discounted = "" if self.discount == 1 else f"-discount-{self.discount}"
        table = cached_array(
            f"gittins-{self.num_pulls}-pulls-{NUM_PRICES}-prices{discounted}",
            (_num_states_before(self.num_pulls),),
            lambda: gittins_table(self.num_pulls, self.discount),
        )
        return torch.from_numpy(table)


def state_number(tally: Tally) -> Tensor:
    """Number the states of the arms by their pulls d, then by their successes.

    Returns:
        d (d + 1) / 2 + successes, `[B, K]`, int64.
    """
    return (tally.pulls * (tally.pulls + 1) / 2 + tally.totals).long()


def gittins_table(num_pulls: int, discount: float = 1.0) -> npt.NDArray[np.int16]:
    """Compute the index of every state of an arm before every pull of a trial.

    With m pulls left and the price x, W_m(s, f) = p - x + d (p V(s+1, f) + (1-p) V(s, f+1)),
    where p is the posterior mean, d the discount and V = max(0, W_{m-1}); the index is
    sup {x: W_m > 0}. One backward pass over m handles many prices at once. As W decreases with the
    price, the number of prices of a uniform grid at which it is positive gives the index in steps
    of that grid.

    Args:
        num_pulls: length of a trial, in pulls.
        discount: discount of one pull.

    Returns:
        For each pull 0, 1, ... the indices of the states with no more pulls than that, in the
        order of `state_number`: `[num_pulls (num_pulls + 1) (num_pulls + 2) / 6]`, int16, in
        units of 1/800 (plus one).
    """
    pulls = torch.arange(num_pulls, device="cpu").unsqueeze(1)
    successes = torch.arange(num_pulls, device="cpu").unsqueeze(0)
    # Cells with more successes than pulls are not states, and no state reads them.
    mean = ((successes + 1) / (pulls + 2)).clamp(max=1)
    is_state = (successes <= pulls).numpy()
    table = np.zeros(_num_states_before(num_pulls), np.int16)
    chunks = torch.linspace(0, 1, NUM_PRICES, device="cpu").split(PRICES_AT_ONCE)
    for prices in track_slow(chunks, f"Gittins indices of {num_pulls} pulls"):
        value = prices.new_zeros(len(prices), num_pulls + 1, num_pulls + 1)
        for pull in reversed(range(num_pulls)):
            side = slice(0, pull + 1)
            after_failure, after_success = value[:, 1:, :-1], value[:, 1:, 1:]
            value = torch.lerp(after_failure, after_success, mean[side, side])
            value = value.mul_(discount).add_(mean[side, side]).sub_(prices[:, None, None]).relu_()
            num_positive = value.sign().sum(0).numpy()[is_state[side, side]]
            start = _num_states_before(pull)
            table[start : start + _num_states(pull)] += num_positive.astype(np.int16)
    return table


def _num_states(pulls: int) -> int:
    """The number of states of an arm after up to `pulls` pulls."""
    return (pulls + 1) * (pulls + 2) // 2


def _num_states_before(pull: int) -> int:
    """The number of states at pulls 0, ..., pull - 1."""
    return pull * (pull + 1) * (pull + 2) // 6
