"""A user-defined family: a treasure to the left or to the right, some steps away."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning.families.player import Player
from rl2_lightning.families.scene import Scene
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings, between


@dataclass
class TreasureSettings(Settings):
    """What can be set.

    Attributes:
        distance: distance of the treasure from the start, in steps.
    """

    distance: int = between(1, 100, default=2)


class Treasure(TaskEnv):
    """Walk left (action 0) or right (action 1); the observation, `[B, 1]`, is the position."""

    Settings = TreasureSettings
    ends_early = True

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(TreasureSettings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(2),
            max_episode_steps=4 * self.settings.distance,
            device=device,
        )
        self.place = torch.zeros(num_tasks, 1, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """The side of the treasure, -1 or 1, `[num_tasks, 1]`."""
        shape = (num_tasks, 1)
        right = torch.randint(2, shape, generator=self.generator, device=self.device)
        return TensorDict({"side": 2.0 * right - 1}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        self.place = self.place.masked_fill(rows, 0)
        return self.place

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.place = self.place + (2 * action.unsqueeze(1) - 1) * playing
        found = self.place == self.tasks["side"] * self.settings.distance
        return self.place, found.float(), found

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        return {"knows_the_side": WhoKnows()}

    def scene(self, task: TensorDictBase) -> Scene:
        width = 2 * self.settings.distance + 1
        goal = (float(task["side"]) * self.settings.distance, 0.0)
        return Scene((-width, -1), (width, 1), start=(0, 0), goal=goal, goal_radius=0.5)

    @property
    def position(self) -> Tensor:
        return torch.cat((self.place, torch.zeros_like(self.place)), dim=1)


class WhoKnows(Player):
    """Walks straight to the treasure."""

    privileged = True

    def start(self, tasks: TensorDictBase) -> Tensor:
        return (tasks["side"] > 0).long().squeeze(1)

    def choose(self, memory: Tensor, observation: Tensor, generator: torch.Generator) -> Tensor:
        return memory
