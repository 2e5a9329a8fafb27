"""The regulator's gain, against a long plain recursion of the Riccati equation."""

import torch

from rl2_lightning.oracles.regulator import regulator_gain


def test_gains_are_those_of_a_long_horizon() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 4, 4, generator=generator, dtype=torch.float64)
    b = torch.randn(6, 4, 1, generator=generator, dtype=torch.float64)
    diagonal = torch.tensor([1.0, 0.1, 3.0, 0.5], dtype=torch.float64)
    assert (torch.linalg.eigvals(a).abs().amax(1) > 1).all(), "left alone they run away"
    cost = diagonal.diag().expand(6, 4, 4)
    gain = torch.zeros(6, 1, 4, dtype=torch.float64)
    for _ in range(2000):
        gain = (b.mT @ cost @ a) / (0.2 + b.mT @ cost @ b)
        cost = diagonal.diag() + a.mT @ cost @ (a - b @ gain)
    torch.testing.assert_close(regulator_gain(a, b, diagonal, 0.2), gain, rtol=1e-6, atol=1e-8)
    assert (torch.linalg.eigvals(a - b @ gain).abs().amax(1) < 1).all()
