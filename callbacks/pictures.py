"""Images and films into TensorBoard."""

from collections.abc import Iterable

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary


def log_image(loggers: Iterable[Logger], name: str, image: np.ndarray, step: int) -> None:
    """Puts an image `[height, width, 3]` into TensorBoard, if that is among the loggers."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step, dataformats="HWC")


def log_gif(loggers: Iterable[Logger], name: str, gif: bytes, step: int) -> None:
    """Puts a film into TensorBoard, which plays GIF files as images do.

    The writer's own `add_video` needs one more package to make such a file.
    """
    summary = Summary(
        value=[Summary.Value(tag=name, image=Summary.Image(encoded_image_string=gif))]
    )
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            writer = logger.experiment._get_file_writer()
            writer.add_summary(summary, step)
