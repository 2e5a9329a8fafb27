"""Tells, at the end of a test, how often and how soon the agent finds the goal of a maze."""

from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from tensordict import TensorDictBase

from callbacks.trial_analysis import TrialAnalysis
from rl2_lightning.envs.visual_maze import VisualMaze, searches_of
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.held_out import HeldOutTasks
from rl2_lightning.evaluation.searches import SearchMetric


class GoalSearchAnalysis(TrialAnalysis):
    """Writes how often the agent finds the goal, and in how many steps, after a test.

    It goes to `goal_searches.csv`, and to TensorBoard.
    """

    field = "goal_searches"
    prefix = "search"
    family = VisualMaze
    env = "visual_maze"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Looks at family and trial, before anything is trained or tested.

        Raises:
            UserError: the family is another one, or trials are not of two whole episodes or more.
        """
        super().setup(trainer, pl_module, stage)
        episodes = cast(Any, trainer).datamodule.specimen.episodes_per_trial
        if episodes is None or episodes < 2:
            raise UserError(
                f"callbacks.goal_searches with trial.episodes_per_trial={episodes}: it compares "
                "two whole episodes; set callbacks.goal_searches=null or "
                "trial.episodes_per_trial=2"
            )

    def make_metric(self, tasks: HeldOutTasks) -> SearchMetric:
        """See `TrialAnalysis`."""
        return SearchMetric(tasks.num_episodes)

    def add(self, metric: SearchMetric, trials: TensorDictBase) -> None:
        """See `TrialAnalysis`."""
        metric.update(*searches_of(trials, metric.num_episodes))
