"""Point robots (arXiv 1903.08254, 1910.08348): how they answer, and their reference players."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.oracle import Oracle

STEP_SIZE = 0.1  # the longest move in each dimension
RADIUS = 1.0  # of the half circle, and half the side of the square

GOALS = ("half_circle", "square")
REWARDS = ("dense", "sparse")


def sample_goals(num_tasks: int, goals: str, generator: torch.Generator) -> Tensor:
    """Draws goals on the device of the generator.

    Args:
        num_tasks: B, goals to draw.
        goals: "half_circle", uniform on the upper half of the unit circle; or "square", uniform in
            [-1, 1]².
        generator: source of all randomness.

    Returns:
        `[B, 2]`, float32.
    """
    draw = torch.rand(num_tasks, 2, generator=generator, device=generator.device)
    if goals == "square":
        return RADIUS * (2 * draw - 1)
    angle = math.pi * draw[:, 0]
    return RADIUS * torch.stack([angle.cos(), angle.sin()], dim=-1)


def move(position: Tensor, action: Tensor) -> Tensor:
    """Where actions `[B, 2]` in [-1, 1]² lead to from positions `[B, 2]`; others are clipped."""
    return position + STEP_SIZE * action.clamp(-1, 1)


def reward_at(position: Tensor, goal: Tensor, reward: str, goal_radius: float) -> Tensor:
    """What a step that ends at a position earns.

    Args:
        position: `[B, 2]`.
        goal: `[B, 2]`.
        reward: "dense", minus the distance of the goal; or "sparse", 1 minus the distance within
            the goal's radius and 0 elsewhere.
        goal_radius: the farthest from a goal at which a sparse reward is earned.

    Returns:
        `[B, 1]`, float32.
    """
    distance = torch.linalg.vector_norm(position - goal, dim=-1, keepdim=True)
    if reward == "dense":
        return -distance
    return torch.where(distance <= goal_radius, 1 - distance, 0.0)


class PointPlayer(Oracle):
    """A player of one kind of reward.

    Args:
        horizon: length of an episode, in env steps.
        reward: "dense" or "sparse"; see `reward_at`.
        goal_radius: of a sparse reward.
    """

    def __init__(self, horizon: int, reward: str, goal_radius: float) -> None:
        self.horizon = horizon
        self.reward = reward
        self.goal_radius = goal_radius

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """See `Oracle.play`."""
        goal = tasks[keys.GOAL]
        returns = goal.new_zeros(len(goal), num_episodes)
        for episode in range(num_episodes):
            position = torch.zeros_like(goal)
            for _ in range(self.horizon):
                position = move(position, self.act(position, goal, generator))
                reward = reward_at(position, goal, self.reward, self.goal_radius)
                returns[:, episode] += reward.squeeze(1)
        return returns

    @abstractmethod
    def act(self, position: Tensor, goal: Tensor, generator: torch.Generator) -> Tensor:
        """Chooses actions `[B, 2]` at positions `[B, 2]`, for goals `[B, 2]`."""


class RandomPoint(PointPlayer):
    """Takes any action with the same probability."""

    def act(self, position: Tensor, goal: Tensor, generator: torch.Generator) -> Tensor:
        """See `PointPlayer.act`."""
        draw = torch.rand(position.shape, generator=generator, device=position.device)
        return 2 * draw - 1


class KnownGoal(PointPlayer):
    """Knows the goal and goes there, as is best: a bound on what any player can earn.

    A dimension's distance shrinks by a full step, or to nothing, whatever the other one does, so
    that no path is closer to the goal at any of its steps.
    """

    def act(self, position: Tensor, goal: Tensor, generator: torch.Generator) -> Tensor:
        """See `PointPlayer.act`."""
        return ((goal - position) / STEP_SIZE).clamp(-1, 1)


def point_robot_oracles(horizon: int, reward: str, goal_radius: float) -> Mapping[str, Oracle]:
    """The players of point robots, the bound last.

    Args:
        horizon: length of an episode, in env steps.
        reward: "dense" or "sparse"; see `reward_at`.
        goal_radius: of a sparse reward.
    """
    return {
        "random": RandomPoint(horizon, reward, goal_radius),
        "known_goal": KnownGoal(horizon, reward, goal_radius),
    }
