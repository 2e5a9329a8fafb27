"""Film the agent's view beside a map with its path."""

from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from rl2_lightning import keys
from rl2_lightning.callbacks.evaluation import held_out_of
from rl2_lightning.callbacks.outcome import env_steps_of
from rl2_lightning.callbacks.pictures import log_gif
from rl2_lightning.evaluation.film import as_gif, film
from rl2_lightning.learners.learner import Learner
from rl2_lightning.run_folder import make_parent

IMAGE_DIMS = 3  # channels, height and width


class TrialFilm(Callback):
    """Writes a film of a greedily played test trial to a GIF file and TensorBoard.

    `trial_film.gif` is written after the test, for families with image observations and a scene.
    For others nothing is written. Only rank zero plays and writes.

    Args:
        dirpath: folder of the file.
    """

    def __init__(self, dirpath: str) -> None:
        self._file = Path(dirpath) / "trial_film.gif"

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play a trial once more, and film it."""
        if not trainer.is_global_zero:
            return
        held_out = held_out_of(trainer, "test")
        scene = held_out.task_env.scene(held_out.tasks[0])
        shown = held_out.task_env.observation_spec_unbatched[keys.OBSERVATION]
        if scene is None or len(shown.shape) != IMAGE_DIMS:
            return
        agent = cast(Learner, pl_module).agent
        played = held_out.play(
            agent, [0], greedy=True, device=pl_module.device, shows_position=True
        )
        gif = as_gif(film(played[0], scene))
        make_parent(self._file)
        self._file.write_bytes(gif)
        log_gif(trainer.loggers, "test/trial_film", gif, env_steps_of(pl_module))
