"""A family with episodes, and so trials, of different lengths."""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning.families.scene import Scene
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings


class Corridor(TaskEnv):
    """Walk right (action 1) to a goal at distance 1 to 4; the observation is the position."""

    ends_early = True

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(Settings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(2),
            max_episode_steps=5,
            device=device,
        )
        self.place = torch.zeros(num_tasks, 1, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        goal = torch.randint(1, 5, (num_tasks, 1), generator=self.generator, device=self.device)
        return TensorDict({"goal": goal.float()}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        self.place = torch.where(rows, 0.0, self.place)
        return self.place

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.place = torch.where(playing, self.place + action.unsqueeze(1), self.place)
        arrived = self.place >= self.tasks["goal"]
        return self.place, arrived.float(), arrived

    def scene(self, task: TensorDictBase) -> Scene:
        return Scene((0, -1), (5, 1), start=(0, 0), goal=(task["goal"].item(), 0), goal_radius=0.5)

    @property
    def position(self) -> Tensor:
        return torch.cat((self.place, torch.zeros_like(self.place)), dim=1)
