"""GridNavi (arXiv 1910.08348, section 5.1): a grid with a hidden goal."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning import keys
from rl2_lightning.envs.scene import Scene
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.grid_navi import MOVES, goal_cells, move, reward_at
from rl2_lightning.oracles.grid_players import grid_navi_oracles
from rl2_lightning.oracles.oracle import Oracle

SMALLEST = 3


class GridNavi(TaskEnv):
    """Walk over a grid, find the goal, and stay there; in later episodes go straight to it.

    The goal is in any cell, alike likely, but the start in the corner and the three cells next to
    it. A step that ends on the goal earns 1, any other -0.1. Nothing ends an episode but its time.

    The observation, `[B, 2]`, float32, is row and column, as parts of the grid's side. The actions
    are to stay, and to go up, right, down and left.

    Args:
        num_tasks: B, the number of grids played at once.
        size: cells of a side.
        horizon: length of an episode, in env steps.
        device: where they are played.

    Raises:
        UserError: the grid is too small to hide a goal, or an episode has no step.
    """

    def __init__(
        self,
        num_tasks: int,
        size: int = 5,
        horizon: int = 15,
        device: torch.device | str = "cpu",
    ) -> None:
        if size < SMALLEST:
            raise UserError(f"size={size}: a grid needs at least {SMALLEST} cells a side")
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((2,)),
            action_spec=Categorical(len(MOVES)),
            max_episode_steps=horizon,
            device=device,
        )
        self.size = size
        self._goal_cells = goal_cells(size).to(self.device)
        self._position = torch.zeros(num_tasks, 2, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the goals' rows and columns, `[num_tasks, 2]`."""
        index = torch.randint(
            len(self._goal_cells), (num_tasks,), generator=self.generator, device=self.device
        )
        cell = self._goal_cells[index]
        goal = torch.stack([cell // self.size, cell % self.size], dim=-1).float()
        return TensorDict({keys.GOAL: goal}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Puts the rows into the corner."""
        self._position = torch.where(rows, 0.0, self._position)
        return self._observation

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Moves on every grid."""
        self._position = move(self._position, action, self.size)
        return self._observation, reward_at(self._position, self.tasks[keys.GOAL]), self._never

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """A random walk, one who knows the goal, and for small grids the Bayes optimum."""
        return grid_navi_oracles(self.size, self.max_episode_steps)

    def scene(self, task: TensorDictBase) -> Scene:
        """The grid, a cell being 1 wide; row 0 is above."""
        row, column = task[keys.GOAL].tolist()
        last = self.size - 1
        return Scene(
            low=(-0.5, -last - 0.5),
            high=(last + 0.5, 0.5),
            start=(0.0, 0.0),
            goal=(column, -row),
            goal_radius=0.4,
            cell=1.0,
        )

    @property
    def position(self) -> Tensor:
        """Column and negative row, `[B, 2]`, float32."""
        row, column = self._position.unbind(-1)
        return torch.stack([column, -row], dim=-1)

    @property
    def _observation(self) -> Tensor:
        return self._position / (self.size - 1)
