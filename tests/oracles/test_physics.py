"""How the physics of tasks is drawn."""

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.oracles.physics import draw_physics

RANGES = {keys.MASS: (0.5, 1.5), keys.LENGTH: (2.0, 2.0)}


def test_quantities_are_uniform_in_their_ranges() -> None:
    tasks = draw_physics(20_000, RANGES, True, torch.Generator().manual_seed(1))
    mass = tasks[keys.MASS]
    assert mass.shape == (20_000, 1)
    assert mass.dtype == torch.float32
    assert 0.5 <= mass.min() < mass.max() <= 1.5
    shares = [(mass < edge).float().mean().item() for edge in (0.75, 1.0, 1.25)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.015)
    assert (tasks[keys.LENGTH] == 2).all()


def test_the_force_is_turned_round_in_half_of_the_tasks_or_in_none() -> None:
    generator = torch.Generator().manual_seed(1)
    sign = draw_physics(20_000, RANGES, True, generator)[keys.FORCE_SIGN]
    assert set(sign.unique().tolist()) == {-1, 1}
    assert (sign > 0).float().mean().item() == pytest.approx(0.5, abs=0.015)
    assert (draw_physics(100, RANGES, False, generator)[keys.FORCE_SIGN] == 1).all()
