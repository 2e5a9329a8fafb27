"""Draw what the agent does in trials: regret, actions, memory, and what the policy reacts to."""

from copy import deepcopy
from pathlib import Path
from typing import cast

from lightning.pytorch import LightningModule, Trainer
from matplotlib.image import imsave

from rl2_lightning.callbacks.outcome import OutcomeReader, data_of, env_steps_of, outcome_of
from rl2_lightning.callbacks.pictures import log_image
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.look_plots import RANDOM, regret_figure
from rl2_lightning.evaluation.trial_look import figures_of, play_to_look, plays_greedily
from rl2_lightning.learners.learner import Learner
from rl2_lightning.run_folder import make_parent


class TrialLook(OutcomeReader):
    """Writes pictures of some test trials to `look_<name>.png` and TensorBoard after the test.

    Only rank zero plays and writes.

    Args:
        dirpath: folder of the files.
        num_trials: maximum number of test tasks that are played.
        seed: seed of the trials.
    """

    def __init__(self, dirpath: str, num_trials: int = 500, seed: int = 1) -> None:
        self._folder = Path(dirpath)
        self._num_trials = num_trials
        self._seed = seed

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play trials once more, and draw them."""
        if not trainer.is_global_zero:
            return
        outcome = outcome_of(trainer, pl_module, "test")
        agent = deepcopy(cast(Learner, pl_module).agent).cpu()
        tasks = outcome.held_out.tasks[: self._num_trials]
        greedy = plays_greedily(outcome.agents)
        world = data_of(trainer).world
        figures = figures_of(play_to_look(agent, world, tasks, self._seed, greedy=greedy))
        reference = outcome.held_out.reference
        if reference is not None and reference != RANDOM:
            curves = {f"agent {name}": curve for name, curve in outcome.agents.items()}
            title = f"regret on {len(outcome.held_out):,} held-out tasks"
            figures["regret"] = regret_figure(curves, outcome.references, reference, title)
        for name, figure in figures.items():
            image = render(figure)
            picture = self._folder / f"look_{name}.png"
            make_parent(picture)
            imsave(picture, image)
            log_image(trainer.loggers, f"test/look_{name}", image, env_steps_of(pl_module))
