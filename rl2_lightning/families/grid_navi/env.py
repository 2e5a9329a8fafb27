"""GridNavi (arXiv 1910.08348, section 5.1): a grid with a hidden goal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning import keys
from rl2_lightning.families.grid_navi.goal_search import (
    GOAL_REWARD,
    MOVES,
    STEP_REWARD,
    goal_cells,
)
from rl2_lightning.families.grid_navi.players import MAX_SIZE, BayesOptimal, KnownGoal
from rl2_lightning.families.grid_navi.searched_cells import SearchedCells
from rl2_lightning.families.places import Places
from rl2_lightning.families.player import ClosedFormPlayer, Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.scene import GOAL, Scene
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings, between

_, UP, RIGHT, DOWN, LEFT = range(len(MOVES))


@dataclass
class GridNaviSettings(Settings):
    """Settings of the family.

    Attributes:
        size: cells of a side.
        horizon: length of an episode, in env steps.
    """

    size: int = between(3, default=5)
    horizon: int = between(1, default=15)


class GridNavi(TaskEnv):
    """Search a grid for the goal and stay there; in later episodes go straight to it.

    The goal is uniform over all cells except the start in the corner and the three cells next to
    it. A step that ends on the goal earns 1, any other -0.1. An episode only ends by its time
    limit.

    The observation, `[B, 2]`, float32, is row and column, scaled to [0, 1]. The actions are to
    stay, and to go up, right, down and left; the border of the grid blocks moves.

    Args:
        num_tasks: B, the number of grids played at once.
        device: where they are played.
        **settings: fields of `GridNaviSettings`.
    """

    Settings = GridNaviSettings
    recorded_keys = (keys.OBSERVATION, keys.ACTION)  # for the analysis of the search

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(GridNaviSettings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((2,)),
            action_spec=Categorical(len(MOVES)),
            max_episode_steps=self.settings.horizon,
            device=device,
        )
        self._last = self.settings.size - 1
        self._goal_cells = goal_cells(self.settings.size).to(self.device)
        self._position = torch.zeros(num_tasks, 2, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the goals' rows and columns, `[num_tasks, 2]`."""
        index = torch.randint(
            len(self._goal_cells), (num_tasks,), generator=self.generator, device=self.device
        )
        cell = self._goal_cells[index]
        size = self.settings.size
        goal = torch.stack([cell // size, cell % size], dim=-1).float()
        return TensorDict({GOAL: goal}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Reset the given rows to the corner."""
        self._position = torch.where(rows, 0.0, self._position)
        return self._observation

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move on every grid."""
        # A table of moves would be copied to the device at each step.
        down = (action == DOWN).float() - (action == UP).float()
        right = (action == RIGHT).float() - (action == LEFT).float()
        moved = (self._position + torch.stack([down, right], dim=-1)).clamp(0, self._last)
        self._position = torch.where(playing, moved, self._position)
        arrived = (self._position == self.tasks[GOAL]).all(-1, keepdim=True)
        reward = torch.where(arrived, GOAL_REWARD, STEP_REWARD)
        return self._observation, reward, self._never

    def players(self, num_episodes: int) -> Mapping[str, Player | ClosedFormPlayer]:
        """A random walk, a player that knows the goal, and for small grids the Bayes optimum."""
        size, horizon = self.settings.size, self.settings.horizon
        players: dict[str, Player | ClosedFormPlayer] = {
            "random": RandomPlayer(self.action_spec_unbatched),
            "known_goal": KnownGoal(size, horizon),
        }
        if size <= MAX_SIZE:
            players["bayes_optimal"] = BayesOptimal(size, horizon)
        return players

    def analysis(self, num_episodes: int) -> SearchedCells:
        """The number of cells that are searched before the goal is found."""
        return SearchedCells(self.settings.size, num_episodes)

    def scene(self, task: TensorDictBase) -> Scene:
        """The grid, with cells of width 1 and row 0 at the top."""
        row, column = task[GOAL].tolist()
        return Scene(
            low=(-0.5, -self._last - 0.5),
            high=(self._last + 0.5, 0.5),
            start=(0.0, 0.0),
            goal=(column, -row),
            goal_radius=0.4,
            cell=1.0,
        )

    @property
    def places(self) -> Places:
        """The cells, row by row."""
        cells = torch.arange(self.settings.size**2)
        place = torch.stack([cells // self.settings.size, cells % self.settings.size], -1).float()
        row, column = place.unbind(-1)
        return Places(
            observations=place / self._last,
            goals=place,
            positions=torch.stack([column, -row], dim=-1),
        )

    @property
    def position(self) -> Tensor:
        """Column and negative row, `[B, 2]`, float32."""
        row, column = self._position.unbind(-1)
        return torch.stack([column, -row], dim=-1)

    @property
    def _observation(self) -> Tensor:
        return self._position / self._last
