"""The base classes of reference players, which know the family of tasks."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.inputs import Inputs


class Player(ABC):
    """Plays trials of many tasks at once, step by step.

    It sees what an agent sees. A privileged player also knows the task and sees the family's full
    observation. Its memory may be any object; all tasks begin their trials together.

    Attributes:
        privileged: whether it knows the task.
        looks: whether it uses the observations; if not, they need not be rendered.
    """

    privileged: ClassVar[bool] = False
    looks: ClassVar[bool] = True

    def prepare(self) -> None:
        """Do slow preparations, once before the first trial."""

    @abstractmethod
    def start(self, tasks: TensorDictBase) -> Any:
        """The memory at the start of a trial.

        Args:
            tasks: the parameters of B tasks, `[B]`; without entries for a player that is not
                privileged, which may only read their number and device.
        """

    @abstractmethod
    def choose(self, memory: Any, observation: Any, generator: torch.Generator) -> Tensor:
        """Pick the next action of every task.

        Args:
            memory: memory of the trial so far.
            observation: `[B, *observation]`, or tensors by name, depending on the family.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            `[B]`, int64, or `[B, A]`, float32.
        """

    def learn(self, memory: Any, observation: Any, inputs: Inputs) -> Any:
        """The memory after a step.

        Args:
            memory: memory before it.
            observation: observation in which the action was taken, `[B, *observation]`.
            inputs: inputs after it: the action, its reward, whether it ended the episode, and the
                next observation, which is then the first of the next episode.
        """
        return memory


class ClosedFormPlayer(ABC):
    """A player whose returns are known without playing.

    Attributes:
        privileged: whether it knows the task.
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
