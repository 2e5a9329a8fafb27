"""Pendulums of drawn physics: how they swing (gymnasium's Pendulum-v1), and their players."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.regulator import regulator_gain

LARGEST_TORQUE = 2.0  # newton metres
LARGEST_VELOCITY = 8.0  # radians a second
TIME_STEP = 0.05  # seconds
LARGEST_START_VELOCITY = 1.0
# What a step costs: angle from the top, angular velocity and torque, each squared.
STATE_COST = (1.0, 0.1)
TORQUE_COST = 1e-3
ENERGY_GAIN = 5.0  # newton metres for each joule that is missing


def start_state(num_tasks: int, generator: torch.Generator) -> Tensor:
    """Draws first states, `[num_tasks, 2]`, on the device of the generator: any angle, slow."""
    draw = torch.rand(num_tasks, 2, generator=generator, device=generator.device)
    angle, velocity = (2 * draw - 1).split(1, dim=-1)
    return torch.cat([math.pi * angle, LARGEST_START_VELOCITY * velocity], dim=-1)


def swing(state: Tensor, action: Tensor, tasks: TensorDictBase) -> tuple[Tensor, Tensor]:
    """Swings pendulums for one time step, by gymnasium's rule.

    Args:
        state: angle from the top and angular velocity, `[B, 2]`.
        action: torque, `[B, 1]`, clipped to its bounds; the other way round where the sign of the
            force is -1.
        tasks: the physics, `[B]`.

    Returns:
        The next state, `[B, 2]`, and the reward, `[B, 1]`, both float32.
    """
    mass, length, gravity, sign = (
        tasks[name] for name in (keys.MASS, keys.LENGTH, keys.GRAVITY, keys.FORCE_SIGN)
    )
    angle, velocity = state.split(1, dim=-1)
    torque = action.clamp(-LARGEST_TORQUE, LARGEST_TORQUE)
    of_angle, of_velocity = STATE_COST
    cost = of_angle * from_top(angle) ** 2 + of_velocity * velocity**2 + TORQUE_COST * torque**2
    pulled = 3 * gravity / (2 * length) * angle.sin()
    driven = 3 / (mass * length**2) * sign * torque
    velocity = velocity + TIME_STEP * (pulled + driven)
    velocity = velocity.clamp(-LARGEST_VELOCITY, LARGEST_VELOCITY)
    return torch.cat([angle + TIME_STEP * velocity, velocity], dim=-1), -cost


def from_top(angle: Tensor) -> Tensor:
    """The angle in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


class PendulumPlayer(Oracle):
    """A player that chooses by the state.

    Args:
        horizon: length of an episode, in env steps.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """See `Oracle.play`."""
        gain = self.prepare(tasks)
        returns = torch.zeros(len(tasks), num_episodes, device=generator.device)
        for episode in range(num_episodes):
            state = start_state(len(tasks), generator)
            for _ in range(self.horizon):
                torque = self.act(state, gain, tasks, generator)
                state, reward = swing(state, torque, tasks)
                returns[:, episode] += reward.squeeze(1)
        return returns

    @abstractmethod
    def prepare(self, tasks: TensorDictBase) -> Tensor:
        """What it needs to know of tasks `[B]` to act, `[B, 2]`."""

    @abstractmethod
    def act(
        self, state: Tensor, gain: Tensor, tasks: TensorDictBase, generator: torch.Generator
    ) -> Tensor:
        """Chooses torques `[B, 1]` in states `[B, 2]`."""


class RandomPendulum(PendulumPlayer):
    """Takes any torque with the same probability."""

    def prepare(self, tasks: TensorDictBase) -> Tensor:
        """Nothing."""
        return torch.zeros(len(tasks), 2, device=tasks.device)

    def act(
        self, state: Tensor, gain: Tensor, tasks: TensorDictBase, generator: torch.Generator
    ) -> Tensor:
        """See `PendulumPlayer.act`."""
        draw = torch.rand(len(state), 1, generator=generator, device=state.device)
        return LARGEST_TORQUE * (2 * draw - 1)


class KnownPhysicsPendulum(PendulumPlayer):
    """Knows the physics: pumps energy until the top is within reach, and holds it there.

    Energy is pumped as in Astrom and Furuta 2000; at the top a linear-quadratic regulator of the
    very costs takes over, as soon as its torque is within the bounds. A good player, not the best
    possible one.
    """

    def prepare(self, tasks: TensorDictBase) -> Tensor:
        """The regulator's gain, `[B, 2]`, float32."""
        mass, length, gravity = (
            tasks[name].squeeze(-1).double() for name in (keys.MASS, keys.LENGTH, keys.GRAVITY)
        )
        pulled, driven = 3 * gravity / (2 * length), 3 / (mass * length**2)
        transition = torch.ones(len(tasks), 2, 2, dtype=torch.float64, device=tasks.device)
        transition[:, 0, 0] = 1 + TIME_STEP**2 * pulled
        transition[:, 0, 1] = TIME_STEP
        transition[:, 1, 0] = TIME_STEP * pulled
        control = torch.stack([TIME_STEP**2 * driven, TIME_STEP * driven], dim=-1).unsqueeze(-1)
        gain = regulator_gain(transition, control, torch.tensor(STATE_COST), TORQUE_COST)
        return gain.squeeze(1).float()

    def act(
        self, state: Tensor, gain: Tensor, tasks: TensorDictBase, generator: torch.Generator
    ) -> Tensor:
        """See `PendulumPlayer.act`."""
        angle, velocity = from_top(state[:, :1]), state[:, 1:]
        held = -(gain * torch.cat([angle, velocity], dim=-1)).sum(-1, keepdim=True)
        # Of a rod: its moment of inertia is m l² / 3, and its centre is half its length away.
        mass, length, gravity = (tasks[name] for name in (keys.MASS, keys.LENGTH, keys.GRAVITY))
        missing = 0.5 * mass * gravity * length * (1 - angle.cos())
        missing = missing - mass * length**2 / 6 * velocity**2
        # One that hangs still is pushed to either side.
        pumped = ENERGY_GAIN * missing * torch.where(velocity < 0, -1.0, 1.0)
        within_reach = (held.abs() <= LARGEST_TORQUE) & (angle.cos() > 0)
        torque = torch.where(within_reach, held, pumped).clamp(-LARGEST_TORQUE, LARGEST_TORQUE)
        return torque * tasks[keys.FORCE_SIGN]


def pendulum_oracles(horizon: int) -> Mapping[str, Oracle]:
    """The players of pendulums, the one that knows the physics last.

    Args:
        horizon: length of an episode, in env steps.
    """
    return {"random": RandomPendulum(horizon), "known_physics": KnownPhysicsPendulum(horizon)}
