"""The places of a family in which the goal is one of finitely many."""

from dataclasses import dataclass

from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.scene import GOAL


@dataclass(frozen=True)
class Places:
    """P places, one of which is the goal of a task; a step's reward depends on where it leads.

    Attributes:
        observations: what the agent observes in each place, `[P, O]`, float32.
        goals: the task's parameter `goal` if the goal is there, `[P, G]`, float32.
        positions: x and y of each place on the map, `[P, 2]`, float32.
    """

    observations: Tensor
    goals: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.observations)

    def of_observations(self, observations: Tensor) -> Tensor:
        """The indices of the places, `[...]`, int64, in which something is observed.

        Args:
            observations: `[..., O]`.
        """
        return _nearest(observations, self.observations)

    def of_tasks(self, tasks: TensorDictBase) -> Tensor:
        """The indices of the goals' places, `[B]`, int64.

        Args:
            tasks: parameters of the tasks, `[B]`.
        """
        return _nearest(tasks.get(GOAL), self.goals)


def _nearest(points: Tensor, table: Tensor) -> Tensor:
    """The row of the table `[P, D]` that is nearest to each point `[..., D]`."""
    distances = points.unsqueeze(-2) - table.to(points)
    return distances.square().sum(dim=-1).argmin(dim=-1)
