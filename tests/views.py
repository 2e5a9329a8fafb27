"""A family with several observations: a vector and an image."""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded

from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.settings import Settings

IMAGE = (3, 13, 14)


class Views(TaskEnv):
    """Two pictures, one of which pays; they are swapped at every step.

    An episode ends when the right one is chosen, or after three steps.
    """

    ends_early = True

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(Settings, settings)
        shown = Composite(
            {"order": Unbounded((2,)), "picture": Bounded(0, 255, IMAGE, dtype=torch.uint8)}
        )
        super().__init__(
            num_tasks,
            observation_spec=shown,
            action_spec=Categorical(2),
            max_episode_steps=3,
            device=device,
        )
        self.turned = torch.zeros(num_tasks, 1, dtype=torch.int64, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        size = (num_tasks, *IMAGE)
        pictures = torch.randint(256, size, generator=self.generator, device=self.device)
        paying = torch.randint(2, (num_tasks, 1), generator=self.generator, device=self.device)
        tasks = {"paying": paying, "picture": TensorDict({"bytes": pictures.byte()}, [num_tasks])}
        return TensorDict(tasks, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> dict[str, Tensor]:
        self.turned = torch.where(rows, 0, self.turned)
        return self._shown()

    def advance(self, action: Tensor, playing: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        pays = (action.unsqueeze(1) + self.turned) % 2 == self.tasks["paying"]
        self.turned = torch.where(playing, 1 - self.turned, self.turned)
        return self._shown(), pays.float(), pays

    def _shown(self) -> dict[str, Tensor]:
        order = torch.cat([self.turned, 1 - self.turned], 1).float()
        picture = self.tasks["picture", "bytes"]
        turned = self.turned.bool().view(-1, 1, 1, 1)
        return {"order": order, "picture": torch.where(turned, picture.flip(-1), picture)}


def view_trials(num_trials: int, num_episodes: int = 3, **options: Any) -> TrialEnv:
    return TrialEnv(Views(num_trials), episodes_per_trial=num_episodes, **options)
