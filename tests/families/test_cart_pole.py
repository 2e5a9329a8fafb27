"""Cart-poles: gymnasium's steps, random physics, and the player that knows it."""

import gymnasium
import numpy as np
import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.cart_pole import LARGEST_ANGLE, CartPole, has_failed
from rl2_lightning.families.physics import FORCE_SIGN, GRAVITY
from rl2_lightning.families.play import play_reference
from rl2_lightning.families.trial_env import TrialEnv

STANDARD = {
    "cart_mass": (1, 1),
    "pole_length": (0.5, 0.5),
    "gravity": (9.8, 9.8),
    "shows_velocities": True,
}


def step(env: CartPole, action: int) -> TensorDict:
    actions = torch.full((env.num_tasks,), action)
    return env.step(TensorDict({keys.ACTION: actions}, [env.num_tasks]))[keys.NEXT]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("flips", [False, True])
def test_steps_are_those_of_gymnasium(seed: int, flips: bool) -> None:
    theirs = gymnasium.make("CartPole-v1").unwrapped
    ours = CartPole(1, **STANDARD, flips=False)
    if flips:
        tasks = ours.sample_tasks(1).set(FORCE_SIGN, -torch.ones(1, 1))
        ours.reset(TensorDict({keys.TASK: tasks}, [1]))
    else:
        ours.reset()
    observation, _ = theirs.reset(seed=seed)
    ours._state = torch.tensor(observation).unsqueeze(0)
    actions = np.random.default_rng(seed).integers(2, size=200)
    steps = 0
    for action in actions:
        steps += 1
        expected, reward, terminated, *_ = theirs.step(action)
        found = step(ours, int(1 - action if flips else action))
        np.testing.assert_allclose(found[keys.OBSERVATION][0], expected, atol=1e-4)
        assert found[keys.STEP_REWARD].item() == reward == 1
        assert found["terminated"].item() is terminated
        if terminated:
            break
    assert 5 < steps < 200


def test_physics_matters_as_it_should() -> None:
    env = CartPole(2, **STANDARD, flips=False)
    tasks = env.sample_tasks(2)
    tasks[GRAVITY] = torch.tensor([[5.0], [15.0]])
    env.reset(TensorDict({keys.TASK: tasks}, [2]))
    env._state = torch.tensor([[0.0, 0.0, 0.1, 0.0]]).expand(2, 4)
    light, heavy = step(env, 1)[keys.OBSERVATION][:, 3].tolist()
    assert heavy - light == pytest.approx(
        0.02 * 10 * np.sin(0.1) / (0.5 * (4 / 3 - 0.1 * np.cos(0.1) ** 2 / 1.1)), rel=1e-5
    )


def test_an_episode_fails_at_its_bounds() -> None:
    states = torch.zeros(5, 4)
    states[1, 0], states[2, 0] = 2.39, -2.41
    states[3, 2], states[4, 2] = -LARGEST_ANGLE + 1e-3, LARGEST_ANGLE + 1e-3
    assert has_failed(states).squeeze(1).tolist() == [False, False, True, False, True]


def test_who_knows_the_physics_balances_and_who_does_not_falls() -> None:
    env = CartPole(200, horizon=150)
    env.set_seed(0)
    players = env.players(2)
    assert list(players) == ["random", "known_physics"]
    generator = torch.Generator().manual_seed(0)
    tasks = env.sample_tasks(200)
    returns = {
        name: play_reference(player, env, tasks, 2, generator) for name, player in players.items()
    }
    assert returns["random"].shape == (200, 2)
    assert 5 < returns["random"].mean() < 25
    assert returns["known_physics"].mean() > 149
    turned = tasks.clone().set(FORCE_SIGN, -tasks[FORCE_SIGN])
    assert play_reference(players["known_physics"], env, turned, 1, generator).mean() > 149


def test_whose_trial_has_ended_stays_where_it_is() -> None:
    env = TrialEnv(
        CartPole(100, cart_mass=(0.1, 0.1), pole_length=(0.02, 0.02), shows_velocities=True),
        episodes_per_trial=1,
    )
    env.set_seed(0)
    state = env.begin()
    for _ in range(100):
        state = env.advance(torch.ones(100, dtype=torch.int64)).following
    assert not state.playing.any()
    after = env.advance(torch.zeros(100, dtype=torch.int64)).following
    assert torch.equal(after.inputs.observation, state.inputs.observation)
    assert after.inputs.observation.abs().max() < 1000


def test_velocities_are_hidden_unless_they_are_asked_for() -> None:
    seen = {}
    for shows_velocities in (False, True):
        env = CartPole(3, shows_velocities=shows_velocities)
        env.set_seed(0)
        first = env.reset()[keys.OBSERVATION]
        seen[shows_velocities] = torch.stack([first, step(env, 1)[keys.OBSERVATION]])
    assert torch.equal(seen[False], seen[True][..., [0, 2]])


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((0, 1), r"^env.cart_mass=\[0.0, 1.0\] is out of range: set it to at least 0.1$"),
        (
            (2, 1),
            r"^env.cart_mass=\[2.0, 1.0\] is not a range: give two numbers, the lower one first$",
        ),
        ((1,), r"^env.cart_mass=\[1.0\] is not a range: "),
        ((1, float("inf")), r"^env.cart_mass=\[1.0, inf\] is out of range: .* at most 100$"),
    ],
)
def test_a_range_that_makes_no_sense(numbers: tuple[float, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        CartPole(3, cart_mass=numbers)
