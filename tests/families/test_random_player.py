"""The random player: all actions of a family with equal probabilities."""

import pytest
import torch

from rl2_lightning.families.grid_navi import GridNavi
from rl2_lightning.families.pendulum import LARGEST_TORQUE, Pendulum
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.task_env import TaskEnv
from tests.locks import DIALS, Lock


def drawn(env: TaskEnv) -> torch.Tensor:
    player = RandomPlayer(env.action_spec_unbatched)
    env.set_seed(1)
    memory = player.start(env.sample_tasks(env.num_tasks).select())
    action = player.choose(memory, torch.empty(0), env.generator)
    assert action.shape == env.action_spec.shape
    assert action.dtype == env.action_spec.dtype
    return action


def test_each_action_is_alike_likely() -> None:
    shares = torch.bincount(drawn(GridNavi(20_000)), minlength=5) / 20_000
    assert shares.tolist() == pytest.approx([0.2] * 5, abs=0.015)


def test_each_value_of_several_actions_is_alike_likely() -> None:
    action = drawn(Lock(20_000))
    for number, values in enumerate(DIALS):
        shares = torch.bincount(action[:, number], minlength=values) / 20_000
        assert shares.tolist() == pytest.approx([1 / values] * values, abs=0.015)


def test_actions_are_uniform_within_their_bounds() -> None:
    action = drawn(Pendulum(20_000)) / LARGEST_TORQUE
    assert action.abs().max() <= 1
    shares = [(action < edge).float().mean().item() for edge in (-0.5, 0, 0.5)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.015)
