"""Visual mazes (arXiv 1611.02779, section 3.3): find a goal, and return to it in later episodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical

from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.scene import GOAL, Scene
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.visual_maze.first_person import HEIGHT, WIDTH, FirstPersonView
from rl2_lightning.families.visual_maze.layout import wall_lines
from rl2_lightning.families.visual_maze.motion import (
    NUM_ACTIONS,
    START,
    WALLS,
    Pose,
    move,
    sample_mazes,
    start_pose,
    unit_vectors,
)
from rl2_lightning.families.visual_maze.players import ShortestPath
from rl2_lightning.families.visual_maze.searches import GoalSearches
from rl2_lightning.settings import Settings, between

REACH = 0.45  # distance at which the goal is reached, in cells
GOAL_REWARD = 1.0
WALL_REWARD = -0.001
STEP_REWARD = -0.01  # the authors' code; the paper prints -0.04
TRAINING_MAZES_SEED = 1611_02779


@dataclass
class VisualMazeSettings(Settings):
    """Settings of the family.

    Attributes:
        size: N, cells of a side.
        horizon: length at which an episode is cut, in env steps.
        num_training_mazes: number of fixed mazes to train on; None for new ones in every trial.
            Held-out tasks are always new ones.
    """

    size: int = between(2, default=5)
    horizon: int = between(1, default=250)
    num_training_mazes: int | None = between(1, default=1000)


class VisualMaze(TaskEnv):
    """Perfect mazes in first-person view, with a goal that ends the episode.

    Walls, start and goal are drawn for each task, and are the same in all its episodes. A step
    turns by 22.5 degrees to the left or to the right, or moves a quarter of a cell forward. It
    costs 0.01, and 0.001 more if a wall was in the way; reaching the goal earns 1.

    The observation, `[B, 3, 30, 40]`, uint8, is a colour frame of the agent's view.

    Args:
        num_tasks: B, the number of mazes played at once.
        device: where they are played.
        **settings: fields of `VisualMazeSettings`.
    """

    Settings = VisualMazeSettings
    ends_early = True

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(VisualMazeSettings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Bounded(0, 255, (3, HEIGHT, WIDTH), dtype=torch.uint8),
            action_spec=Categorical(NUM_ACTIONS),
            max_episode_steps=self.settings.horizon,
            device=device,
        )
        size, number = self.settings.size, self.settings.num_training_mazes
        self.training_mazes: TensorDict | None = None
        if number is not None:
            generator = torch.Generator().manual_seed(TRAINING_MAZES_SEED)  # on any device the same
            self.training_mazes = sample_mazes(number, size, generator).to(self.device)
        self._view = FirstPersonView(size, self.device)
        self._vectors = unit_vectors(self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw mazes with their starts and goals; see `sample_mazes`."""
        return sample_mazes(num_tasks, self.settings.size, self.generator)

    def sample_training_tasks(self, num_tasks: int) -> TensorDict:
        """Draw from the fixed training mazes, if there are any."""
        mazes = self.training_mazes
        if mazes is None:
            return self.sample_tasks(num_tasks)
        shape = (num_tasks,)
        index = torch.randint(len(mazes), shape, generator=self.generator, device=self.device)
        return mazes[index]

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Set new tasks in some rows, and render the views at their starts."""
        super().set_tasks(tasks, rows)
        self._start = start_pose(self.tasks)
        # Rendered only once, since episodes may begin at every step.
        self._start_frames = self._view.frames(self.tasks[WALLS], self.tasks[GOAL], self._start)
        if not hasattr(self, "_pose"):
            self._pose, self._frames = self._start, self._start_frames

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Reset the given rows to their starts."""
        self._pose = _select(rows, self._start, self._pose)
        # `torch.where` is ten times faster on words of eight bytes than on bytes.
        start, before = (f.view(torch.int64) for f in (self._start_frames, self._frames))
        self._frames = torch.where(rows.view(-1, 1, 1, 1), start, before).view(torch.uint8)
        return self._frames

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn or move in every maze."""
        pose, is_hit = move(self.tasks[WALLS], self._pose, action, self._vectors)
        self._pose = _select(playing, pose, self._pose)
        is_reached = (self._pose.position - self.tasks[GOAL]).square().sum(1) < REACH**2
        reward = STEP_REWARD + WALL_REWARD * is_hit + GOAL_REWARD * is_reached
        self._frames = self._render(playing)
        return self._frames, reward.unsqueeze(1), is_reached.unsqueeze(1)

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random walk, and a player that knows the maze, which no learner does at first."""
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "shortest_path": ShortestPath(),
        }

    def analysis(self, num_episodes: int) -> GoalSearches | None:
        """The analysis of the searches, which compares the first two episodes."""
        return GoalSearches(num_episodes) if num_episodes > 1 else None

    @property
    def full_observation(self) -> Tensor:
        """The pose: x, y and heading, `[B, 3]`, float32."""
        return torch.cat([self._pose.position, self._pose.heading.unsqueeze(1)], dim=1)

    def scene(self, task: TensorDictBase) -> Scene:
        """The maze from above, with cells of width 1 and the first row at the top."""
        start, goal, size = task[START].tolist(), task[GOAL].tolist(), self.settings.size
        return Scene(
            low=(0, -size),
            high=(size, 0),
            start=(start[0], -start[1]),
            goal=(goal[0], -goal[1]),
            goal_radius=REACH,
            walls=[((x, -y), (to_x, -to_y)) for (x, y), (to_x, to_y) in wall_lines(task[WALLS])],
        )

    @property
    def position(self) -> Tensor:
        """The positions of the agents, with y upwards, `[B, 2]`, float32."""
        right, down = self._pose.position.unbind(1)
        return torch.stack([right, -down], dim=1)

    def _render(self, playing: Tensor) -> Tensor:
        """The frames after a step; those of rows that are not playing do not change."""
        if not self.is_watched:
            return self._frames
        walls, goal = self.tasks[WALLS], self.tasks[GOAL]
        if self.device.type != "cpu":
            # Selecting rows would synchronise with the GPU; rows that are not playing have not
            # moved.
            return self._view.frames(walls, goal, self._pose)
        rows = playing.squeeze(1).nonzero().squeeze(1)
        if len(rows) == self.num_tasks:
            return self._view.frames(walls, goal, self._pose)
        pose = Pose(self._pose.position[rows], self._pose.heading[rows])
        frames = self._view.frames(walls[rows], goal[rows], pose)
        return self._frames.index_copy(0, rows, frames)


def _select(rows: Tensor, new: Pose, old: Pose) -> Pose:
    """Take the new pose in the given rows `[B, 1]`, bool, and the old one elsewhere."""
    return Pose(
        torch.where(rows, new.position, old.position),
        torch.where(rows.squeeze(1), new.heading, old.heading),
    )
