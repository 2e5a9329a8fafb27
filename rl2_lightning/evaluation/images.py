"""Figures that notebooks show, and figures as images."""

from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave


class Picture(Figure):
    """A figure outside of pyplot's state, which a notebook shows as the result of a cell."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        imsave(file, render(self), format="png")
        return file.getvalue()


def render(figure: Figure) -> np.ndarray:
    """The figure as an image, `[height, width, 3]`, uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
