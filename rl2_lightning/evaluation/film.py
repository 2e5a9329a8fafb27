"""A played trial as a film: the agent's view beside a map with its path."""

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.paths import MARGIN, draw_map
from rl2_lightning.families.scene import Scene

ENLARGEMENT = 6  # of the agent's view, in each direction
DOTS_PER_INCH = 100
MILLISECONDS = 80  # per frame
EARLIER, NOW, AGENT = (170, 170, 170), (0, 114, 178), (213, 94, 0)  # colours of the path


def film(trial: TensorDictBase, scene: Scene) -> np.ndarray:
    """Draw a frame for each step of a trial.

    Args:
        trial: `[T]`, with the agent's observed images, uint8, the position after each step, the
            episode and the mask.
        scene: the map of its task.

    Returns:
        `[S + 1, height, width, 3]`, uint8, for the S steps that were played: on the left the view
        before the step, on the right the map with the path so far, earlier episodes in grey; and a
        last frame with the final position.
    """
    played = trial[trial[keys.MASK].squeeze(-1)].cpu()
    seen = played[keys.OBSERVATION].permute(0, 2, 3, 1).numpy()
    views = seen.repeat(ENLARGEMENT, 1).repeat(ENLARGEMENT, 2)
    side = views.shape[1]
    episodes = played[keys.EPISODE].squeeze(-1).tolist()
    reached = played[keys.REACHED].tolist()
    canvas = empty_map(scene, side)
    maps, path = [], [pixel_of(scene, scene.start, side)]
    for step, episode in enumerate(episodes):
        if step and episode != episodes[step - 1]:
            for place in path:
                draw_dot(canvas, place, 1, EARLIER)
            path = [pixel_of(scene, scene.start, side)]
        maps.append(_with_path(canvas, path))
        path.append(pixel_of(scene, tuple(reached[step]), side))
    # The final position, with the last view repeated.
    maps.append(_with_path(canvas, path))
    views = np.concatenate([views, views[-1:]])
    return np.concatenate([views, np.stack(maps)], axis=2)


def as_gif(frames: np.ndarray, milliseconds: int = MILLISECONDS) -> bytes:
    """Encode a film as a looping GIF file.

    Args:
        frames: `[S, height, width, 3]`, uint8.
        milliseconds: duration of a frame.
    """
    first, *rest = (Image.fromarray(frame) for frame in frames)
    file = BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    return file.getvalue()


def _with_path(canvas: np.ndarray, path: list[tuple[int, int]]) -> np.ndarray:
    frame = canvas.copy()
    for place in path:
        draw_dot(frame, place, 1, NOW)
    draw_dot(frame, path[-1], 3, AGENT)
    return frame


def empty_map(scene: Scene, side: int) -> np.ndarray:
    """The map without a path, `[side, side, 3]`."""
    figure = Figure(figsize=(side / DOTS_PER_INCH, side / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_map(axes, scene)
    axes.set_axis_off()
    return render(figure)


def pixel_of(scene: Scene, point: tuple[float, ...], side: int) -> tuple[int, int]:
    """Row and column of a point on a map of a square scene."""
    width = scene.high[0] - scene.low[0]
    margin = MARGIN * width
    per_pixel = (width + 2 * margin) / side
    row = (scene.high[1] + margin - point[1]) / per_pixel
    return int(row), int((point[0] - scene.low[0] + margin) / per_pixel)


def draw_dot(
    image: np.ndarray, place: tuple[int, int], radius: int, colour: tuple[int, ...]
) -> None:
    """Paint a square around a pixel, given as row and column, into an image."""
    row, column = place
    rows = slice(max(0, row - radius), row + radius + 1)
    image[rows, max(0, column - radius) : column + radius + 1] = colour
