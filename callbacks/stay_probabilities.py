"""Tells, at the end of a test, which kind of learner plays the two-step task."""

from collections.abc import Mapping

from lightning.pytorch import Trainer
from matplotlib.image import imsave
from tensordict import TensorDictBase

from callbacks.pictures import log_image
from callbacks.trial_analysis import TrialAnalysis
from rl2_lightning.envs.two_step import TwoStep, choices_of
from rl2_lightning.evaluation.held_out import HeldOutTasks
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.stay_plots import stay_probability_figure
from rl2_lightning.evaluation.stay_probabilities import (
    StayProbabilities,
    StayProbabilityMetric,
    stay_probabilities_of,
)
from rl2_lightning.oracles.two_step import TwoStepPolicy

REFERENCES = ("model_free", "model_based")


class StayProbabilityAnalysis(TrialAnalysis):
    """Writes the stay probabilities of the agent and of two reference players after a test.

    They go to `stay_probabilities.csv` and `stay_probabilities.png`, and to TensorBoard.
    """

    field = "stay_probabilities"
    prefix = "stay"
    family = TwoStep
    env = "two_step"
    main_figures = (
        "reward_effect",
        "interaction",
        "adjusted_reward_effect",
        "adjusted_interaction",
    )

    def make_metric(self, tasks: HeldOutTasks) -> StayProbabilityMetric:
        """See `TrialAnalysis`."""
        return StayProbabilityMetric()

    def add(self, metric: StayProbabilityMetric, trials: TensorDictBase) -> None:
        """See `TrialAnalysis`."""
        metric.update(choices_of(trials))

    def references(self, tasks: HeldOutTasks) -> Mapping[str, StayProbabilities]:
        """A player without a model of the task, and one with it."""
        oracles = tasks.env.oracles(tasks.num_episodes)
        players = {name: oracles[name] for name in REFERENCES}
        return {
            name: stay_probabilities_of(player, tasks)
            for name, player in players.items()
            if isinstance(player, TwoStepPolicy)
        }

    def draw(
        self, trainer: Trainer, tasks: HeldOutTasks, players: Mapping[str, StayProbabilities]
    ) -> None:
        """Draws how often an action is repeated, after what."""
        figure = stay_probability_figure(
            {name.replace("_", " "): found for name, found in players.items()},
            f"two-step task: {len(tasks.tasks):,} held-out tasks, "
            f"at most {tasks.num_episodes:,} episodes each",
        )
        image = render(figure)
        imsave(self.folder / "stay_probabilities.png", image)
        log_image(trainer.loggers, "test/stay_probabilities", image, trainer.global_step)
