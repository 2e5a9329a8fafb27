"""A family with one selectable fault, which can depend on the number of tasks."""

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded, Categorical, Unbounded

from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import Settings, between, one_of

FAULTS = (
    "none",
    "nan_reward",
    "infinite_reward",
    "huge_reward",
    "nan_observation",
    "infinite_observation",
    "double_reward",
    "flat_reward",
    "flat_end",
    "double_observation",
    "narrow_observation",
    "early_end",
    "too_few_tasks",
)
NUMBERS = {"nan": torch.nan, "infinite": torch.inf, "huge": 1e20}
LENGTH = 4


@dataclass
class FaultySettings(Settings):
    """Settings of the family.

    Attributes:
        fault: name of the fault.
        at_tasks: number of tasks at which the fault occurs; None for any.
        continuous: whether actions are continuous.
        low: lower bound of actions.
        high: upper bound of actions.
    """

    fault: str = one_of(*FAULTS, default="none")
    at_tasks: int | None = between(1, default=None)
    continuous: bool = False
    low: float = -1.0
    high: float = 1.0


class Faulty(TaskEnv):
    """Stay near a place, or choose its side; the observation is the progress of the episode."""

    Settings = FaultySettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(FaultySettings, settings)
        low, high = self.settings.low, self.settings.high
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((2,)),
            action_spec=Bounded(low, high, (1,)) if self.settings.continuous else Categorical(2),
            max_episode_steps=LENGTH,
            device=device,
        )

    def has(self, *faults: str) -> bool:
        is_here = self.settings.at_tasks in (None, self.num_tasks)
        return is_here and self.settings.fault in faults

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        place = torch.rand((num_tasks, 1), generator=self.generator, device=self.device)
        if self.has("too_few_tasks"):
            place = place[1:]
        return TensorDict({"place": 2 * place - 1}, [len(place)], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        return self._observation()

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.settings.continuous:
            half_width = (self.settings.high - self.settings.low) / 2
            share = (action - self.settings.low) / half_width - 1
        else:
            share = action.unsqueeze(1).float() * 2 - 1
        reward = 1 - (share - self.tasks["place"]).abs()
        end = torch.zeros_like(playing)
        # The first step is correct, so that only further play reveals the fault.
        if (self.episode_steps > 0).any():
            kind, _, what = self.settings.fault.partition("_")
            if what == "reward" and kind in NUMBERS and self.has(self.settings.fault):
                reward[0] = NUMBERS[kind]
            if self.has("early_end"):
                end[0] = True
        if self.has("double_reward"):
            reward = reward.double()
        if self.has("flat_reward"):
            reward = reward.squeeze(1)
        if self.has("flat_end"):
            end = end.squeeze(1)
        return self._observation(), reward, end

    def _observation(self) -> Tensor:
        observation = (self.episode_steps / LENGTH).expand(-1, 2).clone()
        kind, _, what = self.settings.fault.partition("_")
        is_wrong = what == "observation" and kind in NUMBERS and self.has(self.settings.fault)
        if is_wrong and (self.episode_steps > 0).any():
            observation[0] = NUMBERS[kind]
        if self.has("double_observation"):
            return observation.double()
        return observation[:, :1] if self.has("narrow_observation") else observation
