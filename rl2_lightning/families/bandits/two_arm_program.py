"""Backward induction over the counts of two Bernoulli arms."""

import numpy as np
import torch
from torch import Tensor

from rl2_lightning.families.bandits.policies import Tally


class TwoArmProgram:
    """The Bayes-optimal rule for two independent arms with the prior Beta(1, 1).

    A state before pull t is (pulls of the first arm, its successes, successes of the second arm);
    the other pulls are the second arm's. Each layer t is a dense cube of side t + 1, in which cells
    with more successes than pulls are not states and are never read by one.

    Args:
        num_pulls: length of a trial, in pulls.

    Attributes:
        value: exact expected return of a trial.
    """

    def __init__(self, num_pulls: int) -> None:
        self._layers: list[Tensor] = []  # the best arm of each state, [t + 1] * 3, bool
        value = np.zeros((num_pulls + 1,) * 3)
        for pull in reversed(range(num_pulls)):
            count = np.arange(pull + 1)
            first_mean = np.minimum((count + 1) / (count[:, None] + 2), 1)[:, :, None]
            second_mean = np.minimum((count + 1) / (pull - count[:, None] + 2), 1)[:, None, :]
            first = first_mean * (1 + value[1:, 1:, :-1]) + (1 - first_mean) * value[1:, :-1, :-1]
            second = (
                second_mean * (1 + value[:-1, :-1, 1:]) + (1 - second_mean) * value[:-1, :-1, :-1]
            )
            self._layers.append(torch.from_numpy(second > first))
            value = np.maximum(first, second)
        self._layers.reverse()
        self.value = float(value[0, 0, 0])

    def best_arm(self, tally: Tally) -> Tensor:
        """Look up the optimal arm of every bandit, `[B]`, int64."""
        first, second = tally.totals.long().unbind(1)
        layer = self._layers[tally.pull].to(tally.pulls.device)
        return layer[tally.pulls[:, 0].long(), first, second].long()
