"""Figures as images, for files and TensorBoard alike."""

from collections.abc import Iterable

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def render(figure: Figure) -> np.ndarray:
    """The figure as an image, `[height, width, 3]`, uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def log_image(loggers: Iterable[Logger], name: str, image: np.ndarray, step: int) -> None:
    """Puts an image `[height, width, 3]` into TensorBoard, if that is among the loggers."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step, dataformats="HWC")
