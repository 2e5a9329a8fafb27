"""Point robots with a hidden goal (arXiv 1903.08254, 1910.08348)."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Unbounded

from rl2_lightning import keys
from rl2_lightning.envs.scene import Scene
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.point_robot import (
    GOALS,
    RADIUS,
    REWARDS,
    move,
    point_robot_oracles,
    reward_at,
    sample_goals,
)


class PointRobot(TaskEnv):
    """Move a point over the plane to a goal that only the rewards tell of.

    An episode starts at the origin and is cut after `horizon` steps; the goal does not end it.
    The observation, `[B, 2]`, float32, is the position. An action, `[B, 2]`, float32, in [-1, 1]²,
    is a tenth of the plane's unit in each dimension.

    Args:
        num_tasks: B, the number of robots played at once.
        goals: where goals are: "half_circle" of radius 1 around the start, or the "square"
            [-1, 1]² around it.
        reward: "dense", minus the distance of the goal; or "sparse", 1 minus the distance within
            the goal's radius and 0 elsewhere.
        goal_radius: the farthest from a goal at which a sparse reward is earned.
        horizon: length of an episode, in env steps.
        device: where they are played.

    Raises:
        UserError: goals or reward are of an unknown kind, the radius is not in (0, 1], or an
            episode has no step.
    """

    def __init__(
        self,
        num_tasks: int,
        goals: str = "half_circle",
        reward: str = "sparse",
        goal_radius: float = 0.2,
        horizon: int = 20,
        device: torch.device | str = "cpu",
    ) -> None:
        if goals not in GOALS:
            raise UserError(f"goals={goals} are unknown: use one of {', '.join(GOALS)}")
        if reward not in REWARDS:
            raise UserError(f"reward={reward} is unknown: use one of {', '.join(REWARDS)}")
        if not 0 < goal_radius <= 1:
            raise UserError(f"goal_radius={goal_radius}: it lies above 0, and is at most 1")
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((2,)),
            action_spec=Bounded(-1, 1, (2,)),
            max_episode_steps=horizon,
            device=device,
        )
        self.goals = goals
        self.reward = reward
        self.goal_radius = goal_radius
        self._position = torch.zeros(num_tasks, 2, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the goals, `[num_tasks, 2]`."""
        goal = sample_goals(num_tasks, self.goals, self.generator)
        return TensorDict({keys.GOAL: goal}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Puts the rows into the origin."""
        self._position = torch.where(rows, 0.0, self._position)
        return self._position

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Moves every robot."""
        self._position = move(self._position, action)
        reward = reward_at(self._position, self.tasks[keys.GOAL], self.reward, self.goal_radius)
        return self._position, reward, self._never

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """A random walk, and one who knows the goal."""
        return point_robot_oracles(self.max_episode_steps, self.reward, self.goal_radius)

    def scene(self, task: TensorDictBase) -> Scene:
        """The plane around the goals, and a margin."""
        goal = task[keys.GOAL].tolist()
        reach = 1.5 * RADIUS
        return Scene(
            low=(-reach, -reach),
            high=(reach, reach),
            start=(0.0, 0.0),
            goal=(goal[0], goal[1]),
            goal_radius=self.goal_radius,
        )

    @property
    def position(self) -> Tensor:
        """Where the robots are, `[B, 2]`, float32."""
        return self._position
