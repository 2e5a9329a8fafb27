"""Cart-poles of drawn physics: how they move (gymnasium's CartPole-v1), and their players."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.regulator import regulator_gain

POLE_MASS = 0.1  # kilograms
FORCE = 10.0  # newtons
TIME_STEP = 0.02  # seconds
START = 0.1  # each number of the first state is at most that far from 0: twice gymnasium's
LARGEST_POSITION = 2.4  # metres
LARGEST_ANGLE = math.radians(12)
# What the regulator is to keep small: position, velocity, angle, angular velocity; and the force.
STATE_COST = (1.0, 0.1, 10.0, 0.1)
FORCE_COST = 1e-3


def start_state(num_tasks: int, generator: torch.Generator) -> Tensor:
    """Draws first states, `[num_tasks, 4]`, on the device of the generator."""
    draw = torch.rand(num_tasks, 4, generator=generator, device=generator.device)
    return START * (2 * draw - 1)


def move(state: Tensor, action: Tensor, tasks: TensorDictBase) -> Tensor:
    """Moves cart-poles for one time step, by Euler's method as gymnasium does.

    Args:
        state: position, velocity, angle and angular velocity, `[B, 4]`.
        action: 0 to push to the left, 1 to the right, `[B]`; the other way round where the sign
            of the force is -1.
        tasks: the physics, `[B]`.

    Returns:
        The next state, `[B, 4]`.
    """
    physics = (keys.CART_MASS, keys.POLE_LENGTH, keys.GRAVITY, keys.FORCE_SIGN)
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
    """Tells where the cart has left its track or the pole has tipped over, `[B]`, bool."""
    return (state[:, 0].abs() > LARGEST_POSITION) | (state[:, 2].abs() > LARGEST_ANGLE)


class CartPolePlayer(Oracle):
    """A player that chooses by the state.

    Args:
        horizon: length at which an episode is cut, in env steps.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """See `Oracle.play`."""
        gain = self.prepare(tasks)
        returns = torch.zeros(len(tasks), num_episodes, device=generator.device)
        for episode in range(num_episodes):
            state = start_state(len(tasks), generator)
            balanced = torch.ones_like(returns[:, 0])
            for _ in range(self.horizon):
                # The step in which it fails earns its reward, too.
                returns[:, episode] += balanced
                state = move(state, self.act(state, gain, generator), tasks)
                balanced = balanced * ~has_failed(state)
        return returns

    @abstractmethod
    def prepare(self, tasks: TensorDictBase) -> Tensor:
        """What it needs to know of tasks `[B]` to act, `[B, 4]`."""

    @abstractmethod
    def act(self, state: Tensor, gain: Tensor, generator: torch.Generator) -> Tensor:
        """Chooses actions `[B]` in states `[B, 4]`."""


class RandomCartPole(CartPolePlayer):
    """Pushes to either side with the same probability."""

    def prepare(self, tasks: TensorDictBase) -> Tensor:
        """Nothing."""
        return torch.zeros(len(tasks), 4, device=tasks.device)

    def act(self, state: Tensor, gain: Tensor, generator: torch.Generator) -> Tensor:
        """See `CartPolePlayer.act`."""
        return torch.randint(2, state.shape[:1], generator=generator, device=state.device)


class KnownPhysicsCartPole(CartPolePlayer):
    """Knows the physics, sees the whole state, and pushes to the side to which a regulator would.

    It is the linear-quadratic regulator of the upright pole. Forces are only full ones, so that
    this is a good player and not the best possible one.
    """

    def prepare(self, tasks: TensorDictBase) -> Tensor:
        """The regulator's gain, turned round with the force, `[B, 4]`, float32."""
        cart_mass, length, gravity = (
            tasks[name].squeeze(-1).double()
            for name in (keys.CART_MASS, keys.POLE_LENGTH, keys.GRAVITY)
        )
        mass = cart_mass + POLE_MASS
        leverage = length * (4 / 3 - POLE_MASS / mass)
        coupling = POLE_MASS * length / mass
        change = torch.zeros(len(tasks), 4, 4, dtype=torch.float64, device=tasks.device)
        change[:, 0, 1] = change[:, 2, 3] = 1
        change[:, 3, 2] = gravity / leverage
        change[:, 1, 2] = -coupling * gravity / leverage
        by_force = torch.zeros_like(change[:, :, :1])
        by_force[:, 3, 0] = -1 / (mass * leverage)
        by_force[:, 1, 0] = 1 / mass + coupling / (mass * leverage)
        identity = torch.eye(4).to(change)
        gain = regulator_gain(
            identity + TIME_STEP * change,
            TIME_STEP * by_force,
            torch.tensor(STATE_COST),
            FORCE_COST,
        )
        return gain.squeeze(1).float() * tasks[keys.FORCE_SIGN]

    def act(self, state: Tensor, gain: Tensor, generator: torch.Generator) -> Tensor:
        """See `CartPolePlayer.act`."""
        return ((gain * state).sum(-1) < 0).long()


def cart_pole_oracles(horizon: int) -> Mapping[str, Oracle]:
    """The players of cart-poles, the one that knows the physics last.

    Args:
        horizon: length at which an episode is cut, in env steps.
    """
    return {"random": RandomCartPole(horizon), "known_physics": KnownPhysicsCartPole(horizon)}
