"""Log metrics and images to Weights & Biases, each run of a sweep apart."""

from importlib.util import find_spec
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from rl2_lightning.errors import UserError


class WandbMetrics(WandbLogger):
    """Lightning's logger for Weights & Biases, with a run of its own for each job of a sweep.

    Lightning's own one goes on with the run that the process has started before. The horizontal
    axis, `trainer/global_step`, is the number of env steps.

    Args:
        save_dir: folder in which `wandb/` is written.
        project: project that the run belongs to.
        name: name of the run; None for one that Weights & Biases makes up.
        **kwargs: further arguments of `wandb.init`, such as `entity`, `group` or `tags`.

    Raises:
        UserError: wandb is not installed.
    """

    _earlier: Any = None  # the run that this process has started last

    def __init__(
        self, save_dir: str, project: str = "rl2-lightning", name: str | None = None, **kwargs: Any
    ) -> None:
        if find_spec("wandb") is None:
            raise UserError("wandb is not installed, run `pip install rl2-lightning[wandb]`")
        super().__init__(name=name, save_dir=save_dir, project=project, **kwargs)

    @property
    def experiment(self) -> Any:
        """The run; on other ranks than zero, an object that ignores all calls."""
        if self._experiment is None and WandbMetrics._earlier is not None:
            WandbMetrics._earlier.finish()
            WandbMetrics._earlier = None
        run = super().experiment
        WandbMetrics._earlier = self._experiment
        return run
