"""Visual mazes (arXiv 1611.02779, section 3.3): find the goal, and in later episodes go there."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical

from rl2_lightning import keys
from rl2_lightning.envs.first_person import HEIGHT, WIDTH, FirstPersonView
from rl2_lightning.envs.scene import Scene
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.maze_layout import wall_lines
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.visual_maze import (
    NUM_ACTIONS,
    REACH,
    Pose,
    move,
    outcome,
    sample_mazes,
    start_pose,
    unit_vectors,
    visual_maze_oracles,
)

TRAINING_MAZES_SEED = 1611_02779


class VisualMaze(TaskEnv):
    """Perfect mazes seen in first person, with a goal that ends the episode.

    Walls, start and goal are drawn for each task, and are the same in all its episodes. A step
    turns by 22.5 degrees to the left or to the right, or goes a quarter of a cell forward. It costs
    0.01, and 0.001 more if a wall was in the way; to reach the goal earns 1.

    The observation, `[B, 3, 30, 40]`, uint8, is the colour frame that the agent sees.

    Args:
        num_tasks: B, the number of mazes played at once.
        size: N, cells of a side.
        horizon: length at which an episode is cut, in env steps.
        num_training_mazes: how many mazes there are to train on, always the same ones; None for new
            ones in every trial. Tasks to evaluate on are always others.
        device: where they are played.

    Raises:
        UserError: there is no way to go, an episode has no step, or there is no maze to train on.
    """

    ends_early = True

    def __init__(
        self,
        num_tasks: int,
        size: int = 5,
        horizon: int = 250,
        num_training_mazes: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if size < 2:
            raise UserError(f"size={size}: a maze needs at least 2 cells a side")
        if num_training_mazes is not None and num_training_mazes < 1:
            raise UserError(
                f"num_training_mazes={num_training_mazes}: give at least 1, or null for new mazes"
            )
        super().__init__(
            num_tasks,
            observation_spec=Bounded(0, 255, (3, HEIGHT, WIDTH), dtype=torch.uint8),
            action_spec=Categorical(NUM_ACTIONS),
            max_episode_steps=horizon,
            device=device,
        )
        self.size = size
        self.training_mazes: TensorDict | None = None
        if num_training_mazes is not None:
            generator = torch.Generator().manual_seed(TRAINING_MAZES_SEED)  # on any device the same
            mazes = sample_mazes(num_training_mazes, size, generator)
            self.training_mazes = mazes.to(self.device)
        self._view = FirstPersonView(size, self.device)
        self._vectors = unit_vectors(self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws mazes with their starts and goals; see `sample_mazes`."""
        return sample_mazes(num_tasks, self.size, self.generator)

    def sample_training_tasks(self, num_tasks: int) -> TensorDict:
        """Draws from the mazes to train on, if these are fixed."""
        mazes = self.training_mazes
        if mazes is None:
            return self.sample_tasks(num_tasks)
        shape = (num_tasks,)
        index = torch.randint(len(mazes), shape, generator=self.generator, device=self.device)
        return mazes[index]

    def set_tasks(self, tasks: TensorDictBase, rows: Tensor) -> None:
        """Puts new tasks into some rows, and renders what is seen at their starts."""
        super().set_tasks(tasks, rows)
        self._start = start_pose(self.tasks)
        # Trials begin episodes in every step: what is seen there is rendered only once.
        self._start_frames = self._render(self._start)
        if not hasattr(self, "_pose"):
            self._pose, self._frames = self._start, self._start_frames

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Puts the rows to their starts."""
        self._pose = Pose(
            torch.where(rows, self._start.position, self._pose.position),
            torch.where(rows.squeeze(1), self._start.heading, self._pose.heading),
        )
        self._frames = torch.where(rows.view(-1, 1, 1, 1), self._start_frames, self._frames)
        return self._frames

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turns or walks in every maze."""
        self._pose, is_hit = move(self.tasks[keys.WALLS], self._pose, action, self._vectors)
        reward, is_reached = outcome(self._pose.position, self.tasks[keys.GOAL], is_hit)
        self._frames = self._render(self._pose)
        return self._frames, reward.unsqueeze(1), is_reached.unsqueeze(1)

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """A random walk, and one who knows the maze."""
        return visual_maze_oracles(self.max_episode_steps)

    def scene(self, task: TensorDictBase) -> Scene:
        """The maze from above, a cell being 1 wide; the first row is above."""
        start, goal = task[keys.START].tolist(), task[keys.GOAL].tolist()
        return Scene(
            low=(0, -self.size),
            high=(self.size, 0),
            start=(start[0], -start[1]),
            goal=(goal[0], -goal[1]),
            goal_radius=REACH,
            walls=[
                ((x, -y), (to_x, -to_y)) for (x, y), (to_x, to_y) in wall_lines(task[keys.WALLS])
            ],
        )

    @property
    def position(self) -> Tensor:
        """Where the agents are, y upwards, `[B, 2]`, float32."""
        right, down = self._pose.position.unbind(1)
        return torch.stack([right, -down], dim=1)

    def _render(self, pose: Pose) -> Tensor:
        return self._view.frames(self.tasks[keys.WALLS], self.tasks[keys.GOAL], pose)


def searches_of(trials: TensorDictBase, num_episodes: int) -> tuple[Tensor, Tensor]:
    """Reads from played trials what became of their episodes.

    Args:
        trials: `[B, T]`, with the reward, the index of the episode and the mask.
        num_episodes: E, of each trial.

    Returns:
        Whether the goal was found, `[B, E]`, bool; and the env steps of each episode, `[B, E]`,
        int64.
    """
    mask = trials[keys.MASK].squeeze(-1)
    episode = trials[keys.EPISODE].squeeze(-1).masked_fill(~mask, 0)
    # Only the goal earns more than a step costs.
    found = mask & (trials[keys.REWARD].squeeze(-1) > 0)
    counts = torch.zeros(2, len(mask), num_episodes, dtype=torch.int64, device=mask.device)
    successes, lengths = (
        count.scatter_add(1, episode, counted.long())
        for count, counted in zip(counts, (found, mask), strict=True)
    )
    return successes > 0, lengths
