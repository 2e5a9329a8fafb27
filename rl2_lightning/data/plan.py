"""What each iteration of a run collects."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from rl2_lightning.config import CollectionConfig
from rl2_lightning.errors import UserError


@dataclass(frozen=True)
class Stage:
    """Iterations with the same collection settings.

    Attributes:
        num_trials: trials of an iteration, over all ranks.
        trial_length: length of a trial, in episodes or env steps, like the full length.
        steps_per_iteration: maximum number of env steps of an iteration, over all ranks.
        num_iterations: number of iterations.
    """

    num_trials: int
    trial_length: int
    steps_per_iteration: int
    num_iterations: int


class CollectionPlan:
    """The stages of a run: those of the curriculum, then full trials to the end of the budget.

    Args:
        collection: the budget and the collection settings.
        trial_length: full length of a trial, in episodes or env steps.
        steps_per_unit: maximum number of env steps of an episode, or 1 if lengths are env steps.

    Raises:
        UserError: a stage has less than one iteration, or trials longer than the full length.
    """

    def __init__(
        self, collection: CollectionConfig, trial_length: int, steps_per_unit: int
    ) -> None:
        self.stages: list[Stage] = []
        left = collection.total_env_steps
        for name, part in collection.stages.items():
            length = part.trial_length or trial_length
            if length > trial_length:
                raise UserError(
                    f"collection.curriculum.{name}.trial_length={length} is longer than the "
                    f"trial: set it to at most {trial_length}, or collection.uses_curriculum=false"
                )
            num_steps = part.num_trials * length * steps_per_unit
            setting = f"collection.curriculum.{name}.env_steps"
            self._add(part.num_trials, length, num_steps, part.env_steps, setting)
            left -= self.stages[-1].num_iterations * num_steps
        num_steps = collection.num_trials * trial_length * steps_per_unit
        spent = collection.total_env_steps - left
        setting = "collection.total_env_steps"
        self._add(collection.num_trials, trial_length, num_steps, left, setting, spent)

    def _add(
        self,
        num_trials: int,
        length: int,
        num_steps: int,
        budget: int,
        setting: str,
        spent: int = 0,
    ) -> None:
        if budget < num_steps:
            raise UserError(
                f"{setting}={spent + budget} is less than the {spent + num_steps} env steps up to "
                f"the end of its first iteration: set {setting}={spent + num_steps} or more"
            )
        self.stages.append(Stage(num_trials, length, num_steps, budget // num_steps))

    @property
    def num_iterations(self) -> int:
        """The number of whole iterations that fit the budget of env steps."""
        return sum(stage.num_iterations for stage in self.stages)

    def stage_at(self, iteration: int) -> Stage:
        """The stage of an iteration, counted from 0."""
        for stage, end in zip(self.stages, self._ends(), strict=True):
            if iteration < end:
                return stage
        return self.stages[-1]

    def spent_before(self, iteration: int) -> float:
        """The fraction of the planned env steps spent before an iteration, in [0, 1]."""
        steps, first = 0, 0
        for stage, end in zip(self.stages, self._ends(), strict=True):
            steps += max(0, min(iteration, end) - first) * stage.steps_per_iteration
            first = end
        return steps / sum(s.num_iterations * s.steps_per_iteration for s in self.stages)

    def trial_length_at(self, iteration: int) -> int:
        """The length of the trials of an iteration, in episodes or env steps."""
        return self.stage_at(iteration).trial_length

    def _ends(self) -> Sequence[int]:
        return list(accumulate(stage.num_iterations for stage in self.stages))
