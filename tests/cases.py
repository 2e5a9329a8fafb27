"""Cases of a test that has several parameters."""

from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import pytest
from _pytest.mark import ParameterSet


def every_pair(*axes: Iterable[Any]) -> list[ParameterSet]:
    """All combinations of parameters, of which the quick part has enough for each pair of values.

    A fault that depends on two parameters at once is found by them: the memory and the learner, or
    the memory and whether there is a burn-in. The slow part has the other combinations.
    """
    cases = list(product(*map(list, axes)))
    numbers = list(product(*(range(len(list(axis))) for axis in axes)))
    pairs = [frozenset(combinations(enumerate(case), 2)) for case in numbers]
    left = frozenset().union(*pairs)
    quick: set[int] = set()
    while left:
        best = max(range(len(cases)), key=lambda number: len(pairs[number] & left))
        quick.add(best)
        left -= pairs[best]
    return [
        pytest.param(*case, marks=[] if number in quick else pytest.mark.slow)
        for number, case in enumerate(cases)
    ]
