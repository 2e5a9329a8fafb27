"""A family with several discrete actions at once."""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import MultiCategorical, Unbounded

from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.settings import Settings

DIALS = (3, 2)


class Lock(TaskEnv):
    """A lock with a dial of 3 positions and one of 2; each dial that is right earns 1."""

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(Settings, settings)
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=MultiCategorical(DIALS),
            max_episode_steps=2,
            device=device,
        )
        self.shown = torch.ones(num_tasks, 1, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        draw = torch.rand(num_tasks, 2, generator=self.generator, device=self.device)
        right = (draw * torch.tensor(DIALS, device=self.device)).floor()
        return TensorDict({"right": right}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        return self.shown

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        reward = (action == self.tasks["right"]).float().sum(-1, keepdim=True)
        return self.shown, reward, torch.zeros_like(playing)


def lock_trials(num_trials: int, num_episodes: int = 3, **options: Any) -> TrialEnv:
    """Trials with two discrete actions at once."""
    return TrialEnv(Lock(num_trials), episodes_per_trial=num_episodes, **options)
