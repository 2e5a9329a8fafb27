"""Cart-poles with random physics, native and batched (Barto, Sutton and Anderson 1983)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning.families.physics import FORCE_SIGN, GRAVITY, draw_physics, regulator_gain
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings, between, range_within

CART_MASS = "cart_mass"  # [B, 1], float32: kilograms
POLE_LENGTH = "pole_length"  # [B, 1], float32: half of it, in metres
POLE_MASS = 0.1  # kilograms
FORCE = 10.0  # newtons
TIME_STEP = 0.02  # seconds
LARGEST_POSITION = 2.4  # metres
LARGEST_ANGLE = math.radians(12)
# Costs of the regulator: of position, velocity, angle and angular velocity; and of the force.
STATE_COST = (1.0, 0.1, 10.0, 0.1)
FORCE_COST = 1e-3


@dataclass
class CartPoleSettings(Settings):
    """Settings of the family.

    Attributes:
        cart_mass: range from which it is drawn, in kilograms.
        pole_length: range of half the pole's length, in metres.
        gravity: its range, in metres a second squared.
        flips: whether the two actions are swapped in half of the tasks.
        shows_velocities: whether velocities are observed, too.
        largest_start: largest absolute value of each number of an episode's first state.
        horizon: length at which an episode is cut, in env steps.
    """

    cart_mass: list[float] = range_within(0.1, 100, default=(1.0, 4.0))
    pole_length: list[float] = range_within(0.02, 10, default=(0.05, 0.5))
    gravity: list[float] = range_within(0.1, 100, default=(5.0, 20.0))
    flips: bool = True
    shows_velocities: bool = False
    largest_start: float = between(0, 0.2, default=0.1)
    horizon: int = between(1, default=200)


class CartPole(TaskEnv):
    """Balance a pole on a cart with unknown physics.

    A step is that of gymnasium's CartPole-v1 and earns 1. The episode ends when the cart leaves its
    track or the pole tips over, and is cut after `horizon` steps. The observation, float32, is
    position and angle, `[B, 2]`; or position, velocity, angle and angular velocity, `[B, 4]`.

    Args:
        num_tasks: B, the number of cart-poles played at once.
        device: where they are played.
        **settings: fields of `CartPoleSettings`.
    """

    Settings = CartPoleSettings
    ends_early = True

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(CartPoleSettings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((4 if self.settings.shows_velocities else 2,)),
            action_spec=Categorical(2),
            max_episode_steps=self.settings.horizon,
            device=device,
        )
        self._state = torch.zeros(num_tasks, 4, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the physics."""
        ranges = {
            CART_MASS: self.settings.cart_mass,
            POLE_LENGTH: self.settings.pole_length,
            GRAVITY: self.settings.gravity,
        }
        return draw_physics(num_tasks, ranges, self.settings.flips, self.generator)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Reset the given rows to a nearly upright pole."""
        draw = torch.rand(self.num_tasks, 4, generator=self.generator, device=self.device)
        start = self.settings.largest_start * (2 * draw - 1)
        self._state = torch.where(rows, start, self._state)
        return self._seen()

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move every cart."""
        self._state = torch.where(playing, move(self._state, action, self.tasks), self._state)
        reward = torch.ones_like(self._state[:, :1])
        return self._seen(), reward, has_failed(self._state)

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random player, and a regulator that knows the physics."""
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "known_physics": KnownPhysics(),
        }

    @property
    def full_observation(self) -> Tensor:
        """Position, velocity, angle and angular velocity, `[B, 4]`, float32."""
        return self._state

    def _seen(self) -> Tensor:
        return self._state if self.settings.shows_velocities else self._state[:, ::2]


def move(state: Tensor, action: Tensor, tasks: TensorDictBase) -> Tensor:
    """Move cart-poles for one time step, by Euler's method like gymnasium.

    Args:
        state: position, velocity, angle and angular velocity, `[B, 4]`.
        action: 0 to push to the left, 1 to the right, `[B]`; reversed where the sign of the force
            is -1.
        tasks: the physics, `[B]`.

    Returns:
        The next state, `[B, 4]`.
    """
    physics = (CART_MASS, POLE_LENGTH, GRAVITY, FORCE_SIGN)
    cart_mass, length, gravity, sign = (tasks[name].squeeze(-1) for name in physics)
    _, velocity, angle, angular_velocity = state.unbind(-1)
    force = sign * FORCE * (2 * action - 1)
    mass = cart_mass + POLE_MASS
    pushed = (force + POLE_MASS * length * angular_velocity**2 * angle.sin()) / mass
    leverage = length * (4 / 3 - POLE_MASS * angle.cos() ** 2 / mass)
    angular_acceleration = (gravity * angle.sin() - angle.cos() * pushed) / leverage
    acceleration = pushed - POLE_MASS * length * angular_acceleration * angle.cos() / mass
    change = torch.stack([velocity, acceleration, angular_velocity, angular_acceleration], dim=-1)
    return state + TIME_STEP * change


def has_failed(state: Tensor) -> Tensor:
    """Whether the cart has left its track or the pole has tipped over, `[B, 1]`, bool."""
    position, angle = state[:, :1].abs(), state[:, 2:3].abs()
    return (position > LARGEST_POSITION) | (angle > LARGEST_ANGLE)


class KnownPhysics(Player):
    """Knows the physics, sees the full state, and pushes in the direction of a regulator's force.

    The regulator is the linear-quadratic one for the upright pole. Since only full forces are
    available, this is a good player, but not the optimal one.
    """

    privileged = True

    def start(self, tasks: TensorDictBase) -> Tensor:
        """The regulator's gain, with the sign of the force, `[B, 4]`, float32."""
        cart_mass, length, gravity = (
            tasks[name].squeeze(-1).double() for name in (CART_MASS, POLE_LENGTH, GRAVITY)
        )
        mass = cart_mass + POLE_MASS
        leverage = length * (4 / 3 - POLE_MASS / mass)
        coupling = POLE_MASS * length / mass
        change = torch.zeros(len(tasks), 4, 4, dtype=torch.float64, device=tasks.device)
        change[:, 0, 1] = change[:, 2, 3] = 1
        change[:, 3, 2] = gravity / leverage
        change[:, 1, 2] = -coupling * gravity / leverage
        by_force = torch.zeros_like(change[:, 0])
        by_force[:, 3] = -1 / (mass * leverage)
        by_force[:, 1] = 1 / mass + coupling / (mass * leverage)
        transition = torch.eye(4).to(change) + TIME_STEP * change
        gain = regulator_gain(transition, TIME_STEP * by_force, STATE_COST, FORCE_COST)
        return gain.float() * tasks[FORCE_SIGN]

    def choose(self, memory: Tensor, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Push against the deviation; see `Player.choose`."""
        return ((memory * observation).sum(-1) < 0).long()
