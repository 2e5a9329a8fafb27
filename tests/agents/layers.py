"""Assertions about layers."""

import torch
from torch import Tensor


def assert_orthogonal(weight: Tensor, gain: float = 1.0) -> None:
    """Assert that the rows, or the columns if fewer, are orthogonal with norm `gain`."""
    narrow = weight if weight.shape[0] <= weight.shape[1] else weight.T
    expected = gain**2 * torch.eye(len(narrow))
    torch.testing.assert_close(narrow @ narrow.T, expected, atol=1e-5, rtol=0)
