"""An agent's belief over the goal, step by step: pictures of a trial, and its mean entropy."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve
from rl2_lightning.evaluation.film import AGENT, NOW, draw_dot, empty_map, pixel_of
from rl2_lightning.evaluation.images import Picture
from rl2_lightning.families.places import Places
from rl2_lightning.families.scene import Scene

SIDE = 200  # of a frame, in pixels
COLOUR = np.array([0, 90, 50])  # of a place that is certain to be the goal
BORDER = np.array([205, 205, 205])  # of a place
PANEL = 0.72  # inches of a step in the figure


def entropies(probabilities: Tensor) -> Tensor:
    """The entropies in nats, `[...]`, of distributions over places, `[..., P]`."""
    return -probabilities.xlogy(probabilities).sum(dim=-1)


def entropy_curve(probabilities: Tensor, mask: Tensor) -> Curve:
    """The mean entropy before each step of trials, over the trials that play it.

    Args:
        probabilities: of each place to be the goal, `[N, T, P]`.
        mask: which steps count, `[N, T, 1]`, bool.
    """
    metric = AdaptationCurve(probabilities.shape[1], sync_on_compute=False)
    metric.update(entropies(probabilities).cpu(), mask.squeeze(-1).cpu())
    curve: Curve = metric.compute()
    return curve


def belief_film(
    trial: TensorDictBase, probabilities: Tensor, places: Places, scene: Scene
) -> list[np.ndarray]:
    """Draw the belief before each step of a trial, with the path of the episode so far.

    Args:
        trial: `[T]`, with the position after each step, the episode and the mask.
        probabilities: of each place to be the goal before each step, `[T, P]`.
        places: the places of the family.
        scene: the map of its task, with cells.

    Returns:
        A frame `[SIDE, SIDE, 3]`, uint8, for each step that was played. The likelier a place, the
        darker it is: the square root of its probability is the colour's opacity.
    """
    blank = empty_map(scene, SIDE)
    mask = trial[keys.MASK].squeeze(-1).cpu()
    played, believed = trial[mask.to(trial.device)].cpu(), probabilities.cpu()[mask].numpy()
    episodes = played[keys.EPISODE].squeeze(-1).tolist()
    reached = played[keys.REACHED].tolist()
    frames, path = [], [pixel_of(scene, scene.start, SIDE)]
    for step, episode in enumerate(episodes):
        if step and episode != episodes[step - 1]:
            path = [pixel_of(scene, scene.start, SIDE)]
        frame = _shaded(blank, believed[step], places, scene)
        for pixel in path:
            draw_dot(frame, pixel, 3, NOW)
        draw_dot(frame, path[-1], 8, AGENT)
        frames.append(frame)
        path.append(pixel_of(scene, tuple(reached[step]), SIDE))
    return frames


def belief_figure(frames: Sequence[np.ndarray], episodes: Sequence[int], title: str) -> Figure:
    """Lay out the frames of a film, a row for each episode.

    Args:
        frames: the frames of the steps that were played, `[S]`.
        episodes: the episode of each of them, from 0.
        title: title of the figure.

    Returns:
        A figure outside of pyplot's state, for any backend.
    """
    rows = [
        [frame for frame, own in zip(frames, episodes, strict=True) if own == episode]
        for episode in sorted(set(episodes))
    ]
    columns = max(map(len, rows))
    size = (PANEL * columns + 0.9, (PANEL + 0.08) * len(rows) + 0.7)
    figure = Picture(figsize=size, dpi=110, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for number, (panels_of_row, row) in enumerate(zip(panels, rows, strict=True), start=1):
        for axes in panels_of_row:
            axes.set_axis_off()
        for step, (axes, frame) in enumerate(zip(panels_of_row, row, strict=False)):
            axes.imshow(frame)
            if number == 1:
                axes.set_title(str(step), fontsize="x-small")
        label = f"episode {number}"
        first = panels_of_row[0]
        first.text(-0.1, 0.5, label, transform=first.transAxes, ha="right", va="center", size=7)
    figure.suptitle(title, x=0.01, ha="left", fontsize="small")
    return figure


def entropy_figure(curve: Curve, episode_steps: int, title: str) -> Figure:
    """Draw the mean entropy before each step, with its interval and the ends of episodes.

    Args:
        curve: mean entropy before each step.
        episode_steps: length of an episode, in env steps.
        title: title of the figure.
    """
    figure = Picture(figsize=(7.0, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    mean, half_width = curve.mean.numpy(), curve.half_width.numpy()
    steps = np.arange(len(mean))
    axes.plot(steps, mean, color="#0072B2")
    axes.fill_between(steps, mean - half_width, mean + half_width, color="#0072B2", alpha=0.25)
    for end in range(episode_steps, len(mean), episode_steps):
        axes.axvline(end, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("env step of the trial")
    axes.set_ylabel("entropy of the goal, in nats")
    axes.set_ylim(bottom=0)
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _shaded(
    blank: np.ndarray, probabilities: np.ndarray, places: Places, scene: Scene
) -> np.ndarray:
    """The map with each place in the colour of its probability."""
    assert scene.cell is not None
    shaded, half = blank.astype(float), 0.47 * scene.cell
    for (x, y), probability in zip(places.positions.tolist(), probabilities, strict=True):
        top, left = pixel_of(scene, (x - half, y + half), SIDE)
        bottom, right = pixel_of(scene, (x + half, y - half), SIDE)
        opacity = float(np.sqrt(probability.clip(0, 1)))
        inside = shaded[top + 1 : bottom - 1, left + 1 : right - 1].copy()
        shaded[top:bottom, left:right] = BORDER
        area = (1 - opacity) * inside + opacity * COLOUR
        shaded[top + 1 : bottom - 1, left + 1 : right - 1] = area
    return shaded.round().astype(np.uint8)
