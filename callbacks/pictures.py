"""Log images and films."""

from collections.abc import Iterable

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from tensorboard.compat.proto.summary_pb2 import Summary


def log_image(loggers: Iterable[Logger], name: str, image: np.ndarray, step: int) -> None:
    """Log an image `[height, width, 3]` to TensorBoard and Weights & Biases, if they are there."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [image], step=step)


def log_gif(loggers: Iterable[Logger], name: str, gif: bytes, step: int) -> None:
    """Log a film to TensorBoard, as an image, if it is among the loggers.

    The writer's own `add_video` would need another package to encode the file.
    """
    summary = Summary(
        value=[Summary.Value(tag=name, image=Summary.Image(encoded_image_string=gif))]
    )
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            writer = logger.experiment._get_file_writer()
            writer.add_summary(summary, step)
