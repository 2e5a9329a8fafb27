"""Draw the agent's paths, episode by episode."""

from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.image import imsave

from rl2_lightning.callbacks.evaluation import held_out_of
from rl2_lightning.callbacks.outcome import env_steps_of
from rl2_lightning.callbacks.pictures import log_image
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.paths import PATHS_TITLE, legs_of, paths_figure
from rl2_lightning.learners.learner import Learner
from rl2_lightning.run_folder import make_parent


class TrialPaths(Callback):
    """Writes the paths of some greedily played test trials to a PNG file and TensorBoard.

    `trial_paths.png` is written after the test, for families with a scene. For others nothing is
    written. Only rank zero plays and writes.

    Args:
        dirpath: folder of the file.
        num_trials: maximum number of test tasks that are played.
    """

    def __init__(self, dirpath: str, num_trials: int = 3) -> None:
        self._picture = Path(dirpath) / "trial_paths.png"
        self._num_trials = num_trials

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play trials once more, and draw their paths."""
        if not trainer.is_global_zero:
            return
        held_out = held_out_of(trainer, "test")
        tasks = held_out.tasks[: self._num_trials]
        scenes = [held_out.task_env.scene(task) for task in tasks]
        trials = [(number, scene) for number, scene in enumerate(scenes) if scene is not None]
        if not trials:
            return
        agent = cast(Learner, pl_module).agent
        played = held_out.play(
            agent,
            list(range(len(tasks))),
            greedy=True,
            device=pl_module.device,
            shows_position=True,
        )
        figure = paths_figure(
            [(scene, legs_of(played[number], scene)) for number, scene in trials],
            f"greedy play of {len(trials)} held-out tasks: {PATHS_TITLE}",
        )
        image = render(figure)
        make_parent(self._picture)
        imsave(self._picture, image)
        log_image(trainer.loggers, "test/trial_paths", image, env_steps_of(pl_module))
