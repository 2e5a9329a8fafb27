"""Checks for finite values that are made together, since a GPU has to be waited for in each."""

from typing import NamedTuple

import torch
from torch import Tensor


class Check(NamedTuple):
    """A value that has to be finite.

    Attributes:
        name: what it is, for the error message.
        value: `[]`.
        remedy: what to do if it is not; None for the usual advice.
    """

    name: str
    value: Tensor
    remedy: str | None


class PendingChecks:
    """Checks that have not been made yet, in their order."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def add(self, check: Check) -> None:
        """Add a check; nothing waits for its value."""
        self._checks.append(check._replace(value=check.value.detach()))

    def first_failed(self) -> Check | None:
        """The first value that is not finite, if any; none is pending any more."""
        checks, self._checks = self._checks, []
        if not checks:
            return None
        are_finite = torch.stack([check.value.float() for check in checks]).isfinite().tolist()
        return next((one for one, good in zip(checks, are_finite, strict=True) if not good), None)
