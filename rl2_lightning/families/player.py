"""The contract of a reference player: one that knows the family of tasks."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.inputs import Inputs


class Player(ABC):
    """Plays trials of many tasks at once, one step after the other.

    It sees what an agent sees. One that is privileged is told the task too, and sees the family's
    full observation. Its memory is whatever it likes; all tasks begin their trials together.

    Attributes:
        privileged: whether it is told the task.
        looks: whether it looks at what agents are shown; for one that does not nothing is rendered.
    """

    privileged: ClassVar[bool] = False
    looks: ClassVar[bool] = True

    def prepare(self) -> None:
        """Does what takes long, and is to be done once before the first trial."""

    @abstractmethod
    def start(self, tasks: TensorDictBase) -> Any:
        """The memory with which a trial begins.

        Args:
            tasks: the parameters of B tasks, `[B]`; without any entry for a player that is not
                privileged, which may read their number and their device.
        """

    @abstractmethod
    def choose(self, memory: Any, observation: Any, generator: torch.Generator) -> Tensor:
        """Picks the next action of every task.

        Args:
            memory: of the trial so far.
            observation: `[B, *observation]`, or tensors by name, as the family shows it.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            `[B]`, int64, or `[B, A]`, float32.
        """

    def learn(self, memory: Any, observation: Any, inputs: Inputs) -> Any:
        """The memory after a step.

        Args:
            memory: before it.
            observation: in which its action was taken, `[B, *observation]`.
            inputs: what is shown after it: the action, its reward, whether it has ended the
                episode, and the next observation, which then is the first of the next episode.
        """
        return memory


class ClosedFormPlayer(ABC):
    """A player whose returns are known without playing.

    Attributes:
        privileged: whether it is told the task.
    """

    privileged: ClassVar[bool] = False

    @abstractmethod
    def returns(
        self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator
    ) -> Tensor:
        """The returns of one trial of every task.

        Args:
            tasks: parameters of B tasks, `[B]`.
            num_episodes: E, length of each trial, in episodes.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            Return of every episode, `[B, E]`, float32, in units of reward.
        """
