"""Point robots with a hidden goal (arXiv 1903.08254, 1910.08348)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Unbounded

from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.scene import GOAL, Scene
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings, between, one_of

STEP_SIZE = 0.1  # the longest move in each dimension
RADIUS = 1.0  # radius of the half circle, and half the side of the square


@dataclass
class PointRobotSettings(Settings):
    """Settings of the family.

    Attributes:
        goals: distribution of goals: "half_circle", uniform on the upper half of the circle of
            radius 1 around the start; or "square", uniform in [-1, 1]² around it.
        reward: "dense", minus the distance to the goal; or "sparse", 1 minus the distance within
            the goal's radius and 0 elsewhere.
        goal_radius: largest distance from the goal at which a sparse reward is earned.
        horizon: length of an episode, in env steps.
    """

    goals: str = one_of("half_circle", "square", default="half_circle")
    reward: str = one_of("dense", "sparse", default="sparse")
    goal_radius: float = between(0.01, 1, default=0.2)
    horizon: int = between(1, default=20)


class PointRobot(TaskEnv):
    """Move a point in the plane to a goal that is only revealed by the rewards.

    An episode starts at the origin and is cut after `horizon` steps; the goal does not end it.
    The observation, `[B, 2]`, float32, is the position. An action, `[B, 2]`, float32, in [-1, 1]²,
    moves the point by up to a tenth of a unit in each dimension; others are clipped.

    Args:
        num_tasks: B, the number of robots played at once.
        device: where they are played.
        **settings: fields of `PointRobotSettings`.
    """

    Settings = PointRobotSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(PointRobotSettings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((2,)),
            action_spec=Bounded(-1, 1, (2,)),
            max_episode_steps=self.settings.horizon,
            device=device,
        )
        self._position = torch.zeros(num_tasks, 2, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the goals, `[num_tasks, 2]`."""
        draw = torch.rand(num_tasks, 2, generator=self.generator, device=self.device)
        if self.settings.goals == "square":
            goal = 2 * draw - 1
        else:
            angle = math.pi * draw[:, 0]
            goal = torch.stack([angle.cos(), angle.sin()], dim=-1)
        return TensorDict({GOAL: RADIUS * goal}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Reset the given rows to the origin."""
        self._position = torch.where(rows, 0.0, self._position)
        return self._position

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move every robot."""
        moved = self._position + STEP_SIZE * action.clamp(-1, 1)
        self._position = torch.where(playing, moved, self._position)
        offset = self._position - self.tasks[GOAL]
        distance = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
        if self.settings.reward == "dense":
            return self._position, -distance, self._never
        reward = torch.where(distance <= self.settings.goal_radius, 1 - distance, 0.0)
        return self._position, reward, self._never

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random walk, and a player that knows the goal."""
        return {"random": RandomPlayer(self.action_spec_unbatched), "known_goal": KnownGoal()}

    def scene(self, task: TensorDictBase) -> Scene:
        """The plane around the goals, with a margin."""
        goal = task[GOAL].tolist()
        reach = 1.5 * RADIUS
        return Scene(
            low=(-reach, -reach),
            high=(reach, reach),
            start=(0.0, 0.0),
            goal=(goal[0], goal[1]),
            goal_radius=self.settings.goal_radius,
        )

    @property
    def position(self) -> Tensor:
        """The positions of the robots, `[B, 2]`, float32."""
        return self._position


class KnownGoal(Player):
    """Knows the goal and goes straight to it: an upper bound for any player.

    In each dimension the distance shrinks by a full step, or to zero, independently of the other
    one, so that no path is closer to the goal at any step.
    """

    privileged = True

    def start(self, tasks: TensorDictBase) -> Tensor:
        """The goals, `[B, 2]`."""
        return tasks[GOAL]

    def choose(self, memory: Tensor, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Go as far as possible towards the goal; see `Player.choose`."""
        return ((memory - observation) / STEP_SIZE).clamp(-1, 1)
