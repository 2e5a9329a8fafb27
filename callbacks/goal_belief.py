"""Draw an agent's belief over the goal, step by step."""

import csv
import io
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.image import imsave
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.callbacks.evaluation import held_out_of
from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.callbacks.outcome import env_steps_of
from rl2_lightning.callbacks.pictures import log_gif, log_image
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.film import as_gif
from rl2_lightning.evaluation.goal_belief import (
    belief_figure,
    belief_film,
    entropy_curve,
    entropy_figure,
)
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.evaluation.images import render
from rl2_lightning.learners.varibad import VariBAD
from rl2_lightning.run_folder import make_parent

MILLISECONDS = 400  # per frame
COLUMNS = ("step", "entropy", "half_width")


class GoalBelief(Callback):
    """Writes the belief over the goal in a greedily played test trial, and its mean entropy.

    After the test, `goal_belief.png` and `goal_belief.gif` show the belief before each step of a
    trial; `goal_entropy.csv` and `goal_entropy.png` the mean of its entropy over many. All of it is
    also logged to TensorBoard. Only for VariBAD with a decoder of goals in a family with places;
    otherwise nothing is written. Only rank zero plays and writes.

    Args:
        dirpath: folder of the files.
        num_trials: maximum number of test tasks over which the entropy is averaged.
    """

    def __init__(self, dirpath: str, num_trials: int = 1000) -> None:
        self._folder = Path(dirpath)
        self._num_trials = num_trials

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play trials once more, and decode their goals."""
        if not isinstance(pl_module, VariBAD) or not pl_module.decoder.knows_goals:
            return
        held_out = held_out_of(trainer, "test")
        if not trainer.is_global_zero or held_out.task_env.scene(held_out.tasks[0]) is None:
            return
        trials, probabilities = self._played(pl_module, held_out)
        frames, figure = self._pictures(trials[0], probabilities[0], held_out)
        curve = entropy_curve(probabilities, trials[keys.MASK])
        write_atomically(self._folder / "goal_entropy.csv", _table(curve))
        title = f"greedy play of {len(trials):,} held-out tasks"
        of_entropy = entropy_figure(curve, held_out.task_env.max_episode_steps, title)
        gif, env_steps = as_gif(np.stack(frames), MILLISECONDS), env_steps_of(pl_module)
        make_parent(self._folder / "goal_belief.gif")
        (self._folder / "goal_belief.gif").write_bytes(gif)
        log_gif(trainer.loggers, "test/goal_belief_film", gif, env_steps)
        for name, picture in (("goal_belief", figure), ("goal_entropy", of_entropy)):
            image = render(picture)
            imsave(self._folder / f"{name}.png", image)
            log_image(trainer.loggers, f"test/{name}", image, env_steps)
        _log_curve(trainer, curve)

    def _played(self, learner: VariBAD, held_out: HeldOut) -> tuple[TensorDictBase, Tensor]:
        """Trials `[N, T]`, and the probabilities of each place before each step, `[N, T, P]`."""
        indices = list(range(min(self._num_trials, len(held_out))))
        trials = held_out.play(
            learner.agent, indices, greedy=True, device=learner.device, shows_position=True
        )
        with torch.no_grad():
            # In chunks, since each belief is sampled many times.
            probabilities = [
                learner.goal_probabilities(learner.agent.beliefs(inputs_of(some), some[keys.MASK]))
                for some in trials.split(16)
            ]
        return trials, torch.cat(probabilities)

    def _pictures(
        self, trial: TensorDictBase, probabilities: Tensor, held_out: HeldOut
    ) -> tuple[list[np.ndarray], Figure]:
        """The frames and the figure of the first test task."""
        task_env = held_out.task_env
        places, scene = task_env.places, task_env.scene(held_out.tasks[0])
        assert places is not None
        assert scene is not None
        frames = belief_film(trial, probabilities, places, scene)
        episodes = trial[keys.EPISODE][trial[keys.MASK]].tolist()
        title = "the belief over the goal before each step, the darker the likelier"
        return frames, belief_figure(frames, episodes, title)


def _table(curve: Curve) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    pairs = zip(curve.mean.tolist(), curve.half_width.tolist(), strict=True)
    for step, (mean, half_width) in enumerate(pairs):
        writer.writerow([step, f"{mean:.7g}", f"{half_width:.7g}"])
    return text.getvalue()


def _log_curve(trainer: Trainer, curve: Curve) -> None:
    """Log the mean entropies over the steps of a trial."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for step, mean in enumerate(curve.mean.tolist()):
                logger.log_metrics({"test/goal_entropy_of_step": mean}, step)
