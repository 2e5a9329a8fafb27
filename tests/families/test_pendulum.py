"""Pendulums: gymnasium's steps, random physics, and the player that knows it."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.families.pendulum import LENGTH, MASS, Pendulum, from_top, swing
from rl2_lightning.families.physics import FORCE_SIGN, GRAVITY
from rl2_lightning.families.play import play_reference

STANDARD = {"mass": (1.0, 1.0), "length": (1.0, 1.0), "gravity": (10.0, 10.0)}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_steps_are_those_of_gymnasium(sign: float) -> None:
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    ours = Pendulum(1, **STANDARD, flips=False)
    tasks = ours.sample_tasks(1).set(FORCE_SIGN, torch.full((1, 1), sign))
    ours.reset(TensorDict({keys.TASK: tasks}, [1]))
    theirs.reset(seed=0)
    ours._state = torch.tensor(theirs.state, dtype=torch.float32).unsqueeze(0)
    # Also with torques beyond the bounds.
    for action in np.random.default_rng(0).uniform(-3, 3, (100, 1)).astype(np.float32):
        expected, reward, *_ = theirs.step(action)
        request = TensorDict({keys.ACTION: torch.tensor(sign * action).unsqueeze(0)}, [1])
        found = ours.step(request)[keys.NEXT]
        np.testing.assert_allclose(found[keys.OBSERVATION][0], expected, atol=2e-3)
        assert found[keys.STEP_REWARD].item() == pytest.approx(reward, abs=2e-2)
        assert not found["terminated"].item()


def test_a_step_by_hand_of_other_physics() -> None:
    numbers = {MASS: 2.0, LENGTH: 0.5, GRAVITY: 8.0, FORCE_SIGN: 1.0}
    tasks = TensorDict({name: torch.tensor([[number]]) for name, number in numbers.items()}, [1])
    state = torch.tensor([[math.pi / 2, 1.0]])
    after, reward = swing(state, torch.tensor([[1.0]]), tasks)
    velocity = 1 + 0.05 * (3 * 8 / (2 * 0.5) + 3 / (2 * 0.25))
    assert after[0].tolist() == pytest.approx([math.pi / 2 + 0.05 * velocity, velocity], rel=1e-5)
    assert reward.item() == pytest.approx(-((math.pi / 2) ** 2 + 0.1 + 0.001), rel=1e-5)


def test_angles_are_told_from_the_top() -> None:
    angles = torch.tensor([0.0, math.pi - 0.1, math.pi + 0.1, -7.0, 13.0])
    expected = [0.0, math.pi - 0.1, 0.1 - math.pi, -7.0 + 2 * math.pi, 13.0 - 4 * math.pi]
    assert from_top(angles).tolist() == pytest.approx(expected, abs=1e-5)


def test_episodes_start_at_any_angle() -> None:
    env = Pendulum(20_000)
    env.set_seed(1)
    cosine, sine, velocity = env.reset()[keys.OBSERVATION].unbind(-1)
    angle = torch.atan2(sine, cosine)
    shares = [(angle < edge).float().mean().item() for edge in (-math.pi / 2, 0, math.pi / 2)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.015)
    assert velocity.abs().max().item() == pytest.approx(1, abs=1e-3)


def test_who_knows_the_physics_swings_up_whatever_the_sign() -> None:
    env = Pendulum(300, horizon=200)
    env.set_seed(0)
    players = env.players(2)
    assert list(players) == ["random", "known_physics"]
    tasks = env.sample_tasks(300)
    generator = torch.Generator().manual_seed(0)
    known = play_reference(players["known_physics"], env, tasks, 2, generator)
    shorter = Pendulum(300, horizon=150)
    short = play_reference(players["known_physics"], shorter, tasks, 2, generator)
    assert known.shape == (300, 2)
    assert known.mean() > play_reference(players["random"], env, tasks, 2, generator).mean() / 4
    # Once at the top, it balances at almost no cost.
    assert short.mean() - known.mean() < 10


def test_who_does_not_play_stays() -> None:
    env = Pendulum(2)
    before = env.reset()[keys.OBSERVATION]
    after = env.play(torch.ones(2, 1), torch.tensor([[True], [False]])).observation
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])
