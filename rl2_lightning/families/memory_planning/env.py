"""The Memory & Planning game (arXiv 2006.03662): goals on a torus of shuffled symbols."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical, MultiOneHot

from rl2_lightning.families.memory_planning.goal_steps import StepsPerGoal
from rl2_lightning.families.memory_planning.players import (
    COLLECT,
    MOVES,
    SYMBOLS,
    KnowsTheMap,
    LearnsTheMap,
)
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings, between


@dataclass
class MemoryPlanningSettings(Settings):
    """Settings of the family.

    Attributes:
        size: cells of a side.
        horizon: length of an episode, in env steps.
    """

    size: int = between(2, 16, default=4)
    horizon: int = between(1, default=100)


class MemoryPlanning(TaskEnv):
    """Walk to a goal symbol, collect it, and get the next goal.

    Each cell of a torus of `size` x `size` cells has a symbol of its own; their arrangement is the
    task. The actions are to go up, right, down and left, and to collect. Collecting the goal earns
    1, everything else nothing; then the agent is moved to a uniformly random cell, and the new goal
    is uniform over the symbols of the other cells. In the paper every goal begins at a new place;
    the authors' environment leaves the agent where it is by default.

    The observation, `[B, 2 * size²]`, float32, is the symbol in the agent's cell, one-hot, and then
    the goal symbol. It does not reveal the position of the cell. An episode only ends by its time
    limit.

    Args:
        num_tasks: B, the number of games played at once.
        device: where they are played.
        **settings: fields of `MemoryPlanningSettings`.
    """

    Settings = MemoryPlanningSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(MemoryPlanningSettings, settings)
        self.num_cells = self.settings.size**2
        super().__init__(
            num_tasks,
            observation_spec=MultiOneHot([self.num_cells] * 2, dtype=torch.float32),
            action_spec=Categorical(len(MOVES)),
            max_episode_steps=self.settings.horizon,
            device=device,
        )
        self._moves = torch.tensor(MOVES, device=self.device)
        self._one_hot = torch.eye(self.num_cells, device=self.device)
        self._rows = torch.arange(num_tasks, device=self.device)
        # The agent's cell and the goal's, numbered row by row.
        self._cell = torch.zeros(num_tasks, 1, dtype=torch.int64, device=self.device)
        self._goal = torch.zeros_like(self._cell)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the symbol of each cell, one-hot, `[num_tasks, cells, symbols]`, float32."""
        shape = (num_tasks, self.num_cells)
        order = torch.rand(shape, generator=self.generator, device=self.device).argsort(dim=1)
        return TensorDict({SYMBOLS: self._one_hot[order]}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Put the given rows into random cells, with goals in other cells."""
        self._draw_places(rows)
        return self._observation

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move or collect in every game."""
        size = self.settings.size
        place = torch.cat([self._cell // size, self._cell % size], dim=1)
        row, column = (place + self._moves[action]).remainder(size).split(1, dim=1)
        self._cell = torch.where(playing, row * size + column, self._cell)
        collected = (action.unsqueeze(1) == COLLECT) & (self._cell == self._goal)
        self._draw_places(collected & playing)
        return self._observation, collected.float(), self._never

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random player, one that knows the map, and one that draws it while it plays."""
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "knows_the_map": KnowsTheMap(self.settings.size),
            "learns_the_map": LearnsTheMap(self.settings.size),
        }

    def analysis(self, num_episodes: int) -> StepsPerGoal:
        """The number of steps for the first goal of a trial, the second, and so on."""
        return StepsPerGoal()

    def _draw_places(self, rows: Tensor) -> None:
        """Draw cell and goal of the given rows, `[B, 1]`, bool."""
        like: dict[str, Any] = {"generator": self.generator, "device": self.device}
        cell = torch.randint(self.num_cells, (self.num_tasks, 1), **like)
        ahead = torch.randint(1, self.num_cells, (self.num_tasks, 1), **like)
        self._cell = torch.where(rows, cell, self._cell)
        self._goal = torch.where(rows, (cell + ahead) % self.num_cells, self._goal)

    @property
    def _observation(self) -> Tensor:
        cells = torch.cat([self._cell, self._goal], dim=1)
        return self.tasks[SYMBOLS][self._rows.unsqueeze(1), cells].flatten(1)
