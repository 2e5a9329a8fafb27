"""The belief over the goal: entropies, and the colours of its places in the film."""

import math

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.evaluation.film import AGENT, pixel_of
from rl2_lightning.evaluation.goal_belief import (
    COLOUR,
    SIDE,
    belief_figure,
    belief_film,
    entropies,
    entropy_curve,
    entropy_figure,
)
from rl2_lightning.evaluation.images import render
from rl2_lightning.families.grid_navi import GridNavi

ENV = GridNavi(1, size=3)
PLACES, SCENE = ENV.places, ENV.scene(TensorDict({"goal": torch.tensor([2.0, 2.0])}, []))


def test_entropies_of_distributions() -> None:
    certain, uniform = torch.eye(4)[0], torch.full((4,), 0.25)
    found = entropies(torch.stack([certain, uniform]))
    assert found.tolist() == pytest.approx([0.0, math.log(4)])


def test_the_curve_is_the_mean_over_the_trials_that_play_a_step() -> None:
    certain, uniform = torch.eye(4)[0], torch.full((4,), 0.25)
    probabilities = torch.stack([torch.stack([uniform, certain]), torch.stack([uniform, uniform])])
    mask = torch.tensor([[[True], [True]], [[True], [False]]])
    curve = entropy_curve(probabilities, mask)
    assert curve.mean.tolist() == pytest.approx([math.log(4), 0.0])
    assert entropy_curve(probabilities, torch.ones_like(mask)).mean[1] == pytest.approx(
        math.log(4) / 2
    )
    assert render(entropy_figure(curve, 1, "title")).ndim == 3


def trial() -> TensorDict:
    """Two steps right, an episode's end, one step down, and an idle step."""
    return TensorDict(
        {
            keys.REACHED: torch.tensor([[1.0, 0], [2, 0], [0, -1], [0, -1]]),
            keys.EPISODE: torch.tensor([[0], [0], [1], [1]]),
            keys.MASK: torch.tensor([[True], [True], [True], [False]]),
        },
        [4],
    )


def colour_at(frame: np.ndarray, place: int) -> list[int]:
    row, column = pixel_of(SCENE, tuple(PLACES.positions[place].tolist()), SIDE)
    return frame[row + 20, column + 20].tolist()  # beside its middle, where the agent may be


def test_a_place_is_the_darker_the_likelier() -> None:
    probabilities = torch.zeros(4, 9)
    probabilities[0] = torch.tensor([0, 0, 1, 0, 0, 0, 0, 0, 0])
    probabilities[1] = torch.tensor([0, 0, 0.25, 0, 0.75, 0, 0, 0, 0])
    frames = belief_film(trial(), probabilities, PLACES, SCENE)
    assert len(frames) == 3
    assert all(frame.shape == (SIDE, SIDE, 3) and frame.dtype == np.uint8 for frame in frames)
    assert colour_at(frames[0], 2) == COLOUR.tolist()
    assert colour_at(frames[0], 4) == [255, 255, 255]
    half = [round((255 + colour) / 2) for colour in COLOUR.tolist()]
    assert colour_at(frames[1], 2) == pytest.approx(half, abs=1)
    assert sum(colour_at(frames[1], 4)) < sum(colour_at(frames[1], 2))


def test_the_agent_is_where_it_was_before_the_step() -> None:
    frames = belief_film(trial(), torch.full((4, 9), 1 / 9), PLACES, SCENE)
    for frame, position in zip(frames, [(0, 0), (1, 0), (0, 0)], strict=True):
        rows, columns = np.nonzero((frame == AGENT).all(-1))
        centre = (int(rows.mean()), int(columns.mean()))
        assert centre == pixel_of(SCENE, position, SIDE)


def test_the_figure_has_a_row_for_each_episode() -> None:
    frames = belief_film(trial(), torch.full((4, 9), 1 / 9), PLACES, SCENE)
    figure = belief_figure(frames, [0, 0, 1], "title")
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]
    assert render(figure).ndim == 3
