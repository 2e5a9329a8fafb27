"""Ranges of physical quantities, as configurations give them."""

from collections.abc import Mapping, Sequence

from rl2_lightning.errors import UserError
from rl2_lightning.oracles.physics import Range


def checked_ranges(ranges: Mapping[str, Sequence[float]]) -> dict[str, Range]:
    """Gives the ranges as pairs.

    Raises:
        UserError: one is not of two positive numbers, the lower first.
    """
    pairs = {}
    for name, numbers in ranges.items():
        if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] < float("inf"):
            raise UserError(
                f"{name}={list(numbers)} is no range: give two positive numbers, the lower first"
            )
        pairs[name] = (float(numbers[0]), float(numbers[1]))
    return pairs
