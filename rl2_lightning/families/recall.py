"""Recall: a cue, a long gap, and a question about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Categorical

from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.inputs import Inputs
from rl2_lightning.settings import Settings, between

CUE = "cue"  # [B, num_cues], float32, one-hot

SHOWS_CUE, DISTRACTS, ASKS = range(3)
NUM_PHASES = 3


@dataclass
class RecallSettings(Settings):
    """Settings of the family.

    Attributes:
        num_cues: C, number of cues.
        gap: env steps between the cue and the question.
    """

    num_cues: int = between(2, 1000, default=4)
    gap: int = between(0, default=10)


class Recall(TaskEnv):
    """Remember the first symbol, and ignore those shown since.

    The first step of an episode shows the cue. Then `gap` steps each show a distractor, drawn from
    the same symbols. The last step asks: the action with the cue's number earns 1, any other
    nothing. Earlier actions have no effect. The cue is the task: it is the same in later episodes.

    The observation, `[B, C + 3]`, float32, is the symbol, one-hot, or zeros with the question; and,
    one-hot, whether the step shows the cue, a distractor or the question.

    Args:
        num_tasks: B, the number of trials played at once.
        device: where they are played.
        **settings: fields of `RecallSettings`.
    """

    Settings = RecallSettings

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.settings = self.read_settings(RecallSettings, settings)
        num_cues = self.settings.num_cues
        super().__init__(
            num_tasks,
            observation_spec=Binary(shape=(num_cues + NUM_PHASES,), dtype=torch.float32),
            action_spec=Categorical(num_cues),
            max_episode_steps=self.settings.gap + 2,
            device=device,
        )
        self._symbols = torch.eye(num_cues, device=self.device)
        self._phases = torch.eye(NUM_PHASES, device=self.device)
        self._place = torch.zeros(num_tasks, 1, dtype=torch.int64, device=self.device)
        self._distractor = torch.zeros(num_tasks, num_cues, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the cues uniformly, one-hot, `[num_tasks, C]`, float32."""
        return TensorDict({CUE: self._draw(num_tasks)}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Show the cue in the given rows."""
        self._place = self._place.masked_fill(rows, 0)
        return self._observation

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Advance by a step, and reward the answer to the question."""
        is_right = self.tasks[CUE].gather(1, action.unsqueeze(1))
        reward = torch.where(self._place > self.settings.gap, is_right, 0.0)
        self._place = self._place + playing
        self._distractor = torch.where(playing, self._draw(self.num_tasks), self._distractor)
        return self._observation, reward, self._never

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """A random player, which is right once in C times, and one that remembers the cue."""
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "remembers": Remembers(self.settings.num_cues),
        }

    def _draw(self, num: int) -> Tensor:
        shape = (num,)
        number = torch.randint(
            self.settings.num_cues, shape, generator=self.generator, device=self.device
        )
        return self._symbols[number]

    @property
    def _observation(self) -> Tensor:
        is_cue, is_asked = self._place == 0, self._place > self.settings.gap
        phase = torch.where(is_cue, SHOWS_CUE, torch.where(is_asked, ASKS, DISTRACTS))
        symbol = torch.where(is_cue, self.tasks[CUE], self._distractor).masked_fill(is_asked, 0.0)
        return torch.cat([symbol, self._phases[phase.squeeze(1)]], dim=1)


class Remembers(Player):
    """Answers with the cue; the optimum.

    Args:
        num_cues: number of cues.
    """

    def __init__(self, num_cues: int) -> None:
        self.num_cues = num_cues

    def start(self, tasks: TensorDictBase) -> Tensor:
        """The number of the cue, `[B]`, int64; 0 until it is known."""
        return torch.zeros(len(tasks), dtype=torch.int64, device=tasks.device)

    def choose(self, memory: Tensor, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Answer at each step, though only one of them asks; see `Player.choose`."""
        return memory

    def learn(self, memory: Tensor, observation: Tensor, inputs: Inputs) -> Tensor:
        """Store the number of the symbol that is shown as the cue; see `Player.learn`."""
        symbol, phase = observation.split([self.num_cues, NUM_PHASES], dim=1)
        return torch.where(phase[:, SHOWS_CUE] > 0, symbol.argmax(1), memory)
