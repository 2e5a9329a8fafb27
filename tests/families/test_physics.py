"""The distribution of tasks' physics, and the gain of a regulator that knows it."""

import pytest
import torch

from rl2_lightning.families.pendulum import LENGTH, MASS
from rl2_lightning.families.physics import FORCE_SIGN, draw_physics, regulator_gain

RANGES = {MASS: (0.5, 1.5), LENGTH: (2.0, 2.0)}


def test_quantities_are_uniform_in_their_ranges() -> None:
    tasks = draw_physics(20_000, RANGES, True, torch.Generator().manual_seed(1))
    mass = tasks[MASS]
    assert mass.shape == (20_000, 1)
    assert mass.dtype == torch.float32
    assert 0.5 <= mass.min() < mass.max() <= 1.5
    shares = [(mass < edge).float().mean().item() for edge in (0.75, 1.0, 1.25)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.015)
    assert (tasks[LENGTH] == 2).all()


def test_the_force_is_turned_round_in_half_of_the_tasks_or_in_none() -> None:
    generator = torch.Generator().manual_seed(1)
    sign = draw_physics(20_000, RANGES, True, generator)[FORCE_SIGN]
    assert set(sign.unique().tolist()) == {-1, 1}
    assert (sign > 0).float().mean().item() == pytest.approx(0.5, abs=0.015)
    assert (draw_physics(100, RANGES, False, generator)[FORCE_SIGN] == 1).all()


def test_gains_are_those_of_a_long_horizon() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 4, 4, generator=generator, dtype=torch.float64)
    b = torch.randn(6, 4, 1, generator=generator, dtype=torch.float64)
    diagonal = (1.0, 0.1, 3.0, 0.5)
    assert (torch.linalg.eigvals(a).abs().amax(1) > 1).all(), "left alone they run away"
    state_cost = torch.tensor(diagonal, dtype=torch.float64).diag()
    cost = state_cost.expand(6, 4, 4)
    gain = torch.zeros(6, 1, 4, dtype=torch.float64)
    # A long plain recursion of the Riccati equation.
    for _ in range(2000):
        gain = (b.mT @ cost @ a) / (0.2 + b.mT @ cost @ b)
        cost = state_cost + a.mT @ cost @ (a - b @ gain)
    found = regulator_gain(a, b.squeeze(-1), diagonal, 0.2)
    torch.testing.assert_close(found, gain.squeeze(1), rtol=1e-6, atol=1e-8)
    assert (torch.linalg.eigvals(a - b @ gain).abs().amax(1) < 1).all()
