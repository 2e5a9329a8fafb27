"""Splitting a trial into the paths of its episodes, and drawing these."""

import numpy as np
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.evaluation.paths import legs_of, paths_figure
from rl2_lightning.families.scene import Scene

SCENE = Scene(low=(0, 0), high=(4, 4), start=(1, 1), goal=(3, 2), goal_radius=0.5)


def trial() -> TensorDict:
    """A trial of two episodes, of three steps and of one, and an idle step."""
    episodes, rewards = [0, 0, 0, 1, 1], [0.5, -1, 2, 3, 0]
    reached = [[2, 1], [3, 1], [3, 2], [1, 2], [1, 2]]
    return TensorDict(
        {
            keys.EPISODE: torch.tensor(episodes).unsqueeze(1),
            keys.REWARD: torch.tensor(rewards).unsqueeze(1),
            keys.MASK: torch.tensor([[True]] * 4 + [[False]]),
            keys.REACHED: torch.tensor(reached, dtype=torch.float32),
        },
        [5],
    )


def test_each_episode_is_a_leg_from_the_start() -> None:
    first, second = legs_of(trial(), SCENE)
    np.testing.assert_array_equal(first.points, [[1, 1], [2, 1], [3, 1], [3, 2]])
    np.testing.assert_array_equal(second.points, [[1, 1], [1, 2]])
    assert (first.episode_return, second.episode_return) == (1.5, 3)


def test_a_row_for_each_trial_and_a_map_for_each_episode() -> None:
    legs = legs_of(trial(), SCENE)
    figure = paths_figure([(SCENE, legs), (SCENE, legs[:1])], "paths")
    first, second, third, empty = figure.axes
    assert [axes.get_title() for axes in (first, second, third)] == [
        "episode 1: 1.5",
        "episode 2: 3.0",
        "episode 1: 1.5",
    ]
    assert not empty.get_visible()
    (goal,) = first.patches
    assert goal.center == SCENE.goal
    low, high = first.get_xlim()
    assert low < SCENE.low[0] < SCENE.high[0] < high
    # If no position is visited twice, points are at their positions up to the shift.
    (_, path) = first.lines
    np.testing.assert_allclose(path.get_xydata(), legs[0].points, atol=0.1)
