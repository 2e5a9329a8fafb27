"""Pendulum swing-up with random physics, native and batched."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Unbounded

from rl2_lightning.families.physics import FORCE_SIGN, GRAVITY, draw_physics, regulator_gain
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings, between, range_within

MASS = "mass"  # [B, 1], float32: kilograms
LENGTH = "length"  # [B, 1], float32: metres
LARGEST_TORQUE = 2.0  # newton metres
LARGEST_VELOCITY = 8.0  # radians a second
TIME_STEP = 0.05  # seconds
LARGEST_START_VELOCITY = 1.0
# Costs of a step: of the squared angle from the top, angular velocity, and torque.
STATE_COST = (1.0, 0.1)
TORQUE_COST = 1e-3
ENERGY_GAIN = 5.0  # newton metres for each joule that is missing


@dataclass
class PendulumSettings(Settings):
    """Settings of the family.

    Attributes:
        mass: range from which it is drawn, in kilograms.
        length: its range, in metres.
        gravity: its range, in metres a second squared.
        flips: whether the torque is reversed in half of the tasks.
        horizon: length of an episode, in env steps.
    """

    mass: list[float] = range_within(0.01, 10, default=(0.7, 1.3))
    length: list[float] = range_within(0.01, 10, default=(0.8, 1.2))
    gravity: list[float] = range_within(0.1, 100, default=(7.0, 13.0))
    flips: bool = True
    horizon: int = between(1, default=100)


class Pendulum(TaskEnv):
    """Swing up a pendulum with unknown physics, with a torque too weak to lift it.

    Dynamics and rewards are those of gymnasium's Pendulum-v1. The observation, `[B, 3]`, float32,
    is cosine and sine of the angle from the top, and the angular velocity. An action, `[B, 1]`,
    float32, is a torque in [-2, 2].

    Args:
        num_tasks: B, the number of pendulums played at once.
        device: where they are played.
        **settings: fields of `PendulumSettings`.
    """

    Settings = PendulumSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(PendulumSettings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((3,)),
            action_spec=Bounded(-LARGEST_TORQUE, LARGEST_TORQUE, (1,)),
            max_episode_steps=self.settings.horizon,
            device=device,
        )
        self._state = torch.zeros(num_tasks, 2, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the physics."""
        ranges = {
            MASS: self.settings.mass,
            LENGTH: self.settings.length,
            GRAVITY: self.settings.gravity,
        }
        return draw_physics(num_tasks, ranges, self.settings.flips, self.generator)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Reset the given rows to any angle and a low velocity."""
        draw = torch.rand(self.num_tasks, 2, generator=self.generator, device=self.device)
        angle, velocity = (2 * draw - 1).split(1, dim=-1)
        start = torch.cat([math.pi * angle, LARGEST_START_VELOCITY * velocity], dim=-1)
        self._state = torch.where(rows, start, self._state)
        return self._observation

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Swing every pendulum."""
        state, reward = swing(self._state, action, self.tasks)
        self._state = torch.where(playing, state, self._state)
        return self._observation, reward, self._never

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random player, and one that knows the physics."""
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "known_physics": KnownPhysics(),
        }

    @property
    def _observation(self) -> Tensor:
        angle, velocity = self._state.split(1, dim=-1)
        return torch.cat([angle.cos(), angle.sin(), velocity], dim=-1)


def swing(state: Tensor, action: Tensor, tasks: TensorDictBase) -> tuple[Tensor, Tensor]:
    """Move pendulums for one time step, by gymnasium's rule.

    Args:
        state: angle from the top and angular velocity, `[B, 2]`.
        action: torque, `[B, 1]`, clipped to its bounds; reversed where the sign of the force is -1.
        tasks: the physics, `[B]`.

    Returns:
        The next state, `[B, 2]`, and the reward, `[B, 1]`, both float32.
    """
    mass, length, gravity, sign = (tasks[name] for name in (MASS, LENGTH, GRAVITY, FORCE_SIGN))
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
    """The angle wrapped to [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


class KnownPhysics(Player):
    """Knows the physics: pumps energy until the top is within reach, and then balances.

    Energy is pumped as in Astrom and Furuta 2000; near the top, a linear-quadratic regulator of the
    same costs takes over as soon as its torque is within the bounds. It is a good player, but not
    the optimal one.
    """

    privileged = True

    def start(self, tasks: TensorDictBase) -> tuple[TensorDictBase, Tensor]:
        """The physics, and the regulator's gain, `[B, 2]`, float32."""
        mass, length, gravity = (
            tasks[name].squeeze(-1).double() for name in (MASS, LENGTH, GRAVITY)
        )
        pulled, driven = 3 * gravity / (2 * length), 3 / (mass * length**2)
        transition = torch.ones(len(tasks), 2, 2, dtype=torch.float64, device=tasks.device)
        transition[:, 0, 0] = 1 + TIME_STEP**2 * pulled
        transition[:, 0, 1] = TIME_STEP
        transition[:, 1, 0] = TIME_STEP * pulled
        control = torch.stack([TIME_STEP**2 * driven, TIME_STEP * driven], dim=-1)
        return tasks, regulator_gain(transition, control, STATE_COST, TORQUE_COST).float()

    def choose(
        self,
        memory: tuple[TensorDictBase, Tensor],
        observation: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Pump or balance; see `Player.choose`."""
        tasks, gain = memory
        cosine, sine, velocity = observation.split(1, dim=-1)
        state = torch.cat([torch.atan2(sine, cosine), velocity], dim=-1)
        held = -(gain * state).sum(-1, keepdim=True)
        # The energy of a rod: its moment of inertia is m l² / 3, its centre of mass at half its
        # length.
        mass, length, gravity = (tasks[name] for name in (MASS, LENGTH, GRAVITY))
        missing = 0.5 * mass * gravity * length * (1 - cosine)
        missing = missing - mass * length**2 / 6 * velocity**2
        # A pendulum at rest is pushed, too.
        pumped = ENERGY_GAIN * missing * torch.where(velocity < 0, -1.0, 1.0)
        within_reach = (held.abs() <= LARGEST_TORQUE) & (cosine > 0)
        torque = torch.where(within_reach, held, pumped).clamp(-LARGEST_TORQUE, LARGEST_TORQUE)
        return torque * tasks[FORCE_SIGN]
