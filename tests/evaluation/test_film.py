"""A trial as a film: its frames, the positions of its dots, and the file."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.evaluation.film import AGENT, EARLIER, ENLARGEMENT, NOW, as_gif, film
from rl2_lightning.families.scene import Scene

SCENE = Scene((0, 0), (4, 4), start=(1, 1), goal=(3, 3), goal_radius=0.3, walls=[((2, 0), (2, 2))])
SIDE = ENLARGEMENT * 20


def trial() -> TensorDict:
    """A trial of two steps to the right, an episode's end, one step up, and an idle step."""
    views = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 20, 30).contiguous()
    return TensorDict(
        {
            keys.OBSERVATION: 50 * views,
            keys.REACHED: torch.tensor([[2.0, 1], [3, 1], [1, 3], [1, 3]]),
            keys.EPISODE: torch.tensor([[0], [0], [1], [1]]),
            keys.MASK: torch.tensor([[True], [True], [True], [False]]),
        },
        [4],
    )


def centre(frame: np.ndarray, colour: tuple[int, ...]) -> list[float]:
    """The centre of a colour on the map, x and y of the scene."""
    rows, columns = np.nonzero((frame[:, -SIDE:] == colour).all(-1))
    assert len(rows), "there is none of it"
    width = 4 * 1.12  # with the margin
    x, y = (columns.mean() + 0.5) / SIDE * width - 0.24, 4.24 - (rows.mean() + 0.5) / SIDE * width
    return [round(x, 1), round(y, 1)]


def test_a_frame_for_each_step_that_was_played() -> None:
    frames = film(trial(), SCENE)
    assert frames.shape == (4, SIDE, ENLARGEMENT * 30 + SIDE, 3)
    assert frames.dtype == np.uint8
    for number, frame in zip([0, 1, 2, 2], frames, strict=True):
        assert (frame[:, : ENLARGEMENT * 30] == 50 * number).all()


def test_the_agent_is_where_it_was_before_the_step() -> None:
    frames = film(trial(), SCENE)
    assert [centre(frame, AGENT) for frame in frames] == [[1, 1], [2, 1], [1, 1], [1, 3]]
    assert centre(frames[1], NOW) == [1, 1]
    assert not (frames[1] == EARLIER).all(-1).any()
    # In the second episode the path of the first one is grey, except where the agent covers it.
    assert centre(frames[2], EARLIER) == [2.5, 1]


def test_the_file_is_a_film() -> None:
    frames = film(trial(), SCENE)
    with Image.open(BytesIO(as_gif(frames))) as image:
        assert image.n_frames == 4
        assert image.size == (frames.shape[2], frames.shape[1])
        assert image.info["loop"] == 0
