"""The index table compared to a literal recursion."""

from functools import cache

import numpy as np
import pytest

from rl2_lightning.families.bandits import gittins
from rl2_lightning.families.bandits.gittins import GittinsIndex, gittins_table
from tests.families.bandits import play, random_bandits


def literal_index(successes: int, failures: int, pulls_left: int, discount: float = 1.0) -> float:
    """The price at which the value of an arm is zero, by bisection in float64."""

    @cache
    def worth(s: int, f: int, left: int, price: float) -> float:
        if left == 0:
            return 0.0
        mean = (s + 1) / (s + f + 2)
        later = (worth(s + 1, f, left - 1, price), worth(s, f + 1, left - 1, price))
        following = mean * max(0, later[0]) + (1 - mean) * max(0, later[1])
        return mean - price + discount * following

    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if worth(successes, failures, pulls_left, middle) > 0
            else (
                low,
                middle,
            )
        )
    return low


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_table_is_the_literal_recursion(discount: float):
    num_pulls = 7
    expected = [
        literal_index(successes, pulls - successes, num_pulls - pull, discount)
        for pull in range(num_pulls)
        for pulls in range(pull + 1)
        for successes in range(pulls + 1)
    ]
    index = (gittins_table(num_pulls, discount) - 1) / (gittins.NUM_PRICES - 1)
    # An index that equals a price of the grid may be rounded to either side.
    error = np.array(expected) - index
    assert error.min() > -1e-6
    assert error.max() < 1 / (gittins.NUM_PRICES - 1) + 1e-6


def test_an_untouched_arm_is_worth_exploring():
    # Two pulls left: 1/2 - x + (2/3 - x) / 2 = 0 at x = 5/9.
    assert literal_index(0, 0, 2) == pytest.approx(5 / 9)


@pytest.mark.parametrize(("discount", "expected"), [(0.9, 0.7029), (0.95, 0.7614)])
def test_a_long_discounted_horizon_has_the_published_index(discount: float, expected: float):
    # The first entry of the tables of Gittins (1989) for an arm that was never pulled.
    index = (gittins_table(120, discount)[0] - 1) / (gittins.NUM_PRICES - 1)
    assert expected - 2 / (gittins.NUM_PRICES - 1) < index <= expected + 1e-4


def test_the_table_is_computed_once(empty_cache, monkeypatch):
    tasks = random_bandits(50, 3, seed=0)
    first = play(GittinsIndex(3, 9), tasks, 9, seed=1)
    assert [path.suffix for path in empty_cache.iterdir()] == [".npy"]
    monkeypatch.setattr(gittins, "gittins_table", None)
    assert (play(GittinsIndex(3, 9), tasks, 9, seed=1) == first).all()
