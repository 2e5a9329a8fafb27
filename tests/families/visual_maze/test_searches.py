"""The outcomes of searches for a goal, compared to a literal loop."""

import math

import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.families.visual_maze import VisualMaze
from rl2_lightning.families.visual_maze.searches import GoalSearches, SearchMetric, searches_of
from rl2_lightning.means import Estimate

STEP, GOAL = -0.01, 0.99
HORIZON = 4


def played(*trials: list[list[float]]) -> TensorDict:
    """Trials with given rewards of their episodes, and garbage on the idle tails."""
    length = max(sum(map(len, trial)) for trial in trials)
    reward = torch.full((len(trials), length, 1), math.nan)
    episode = torch.full((len(trials), length, 1), 99)
    mask = torch.zeros(len(trials), length, 1, dtype=torch.bool)
    for row, trial in enumerate(trials):
        numbered = [(number, value) for number, rewards in enumerate(trial) for value in rewards]
        for step, (number, value) in enumerate(numbered):
            reward[row, step], episode[row, step], mask[row, step] = value, number, True
    batch = {keys.REWARD: reward, keys.EPISODE: episode, keys.MASK: mask}
    return TensorDict(batch, batch_size=[len(trials), length])


TRIALS = played(
    [[STEP, STEP, GOAL], [GOAL]],
    [[STEP] * HORIZON, [STEP, GOAL]],
    [[STEP, GOAL], [STEP] * HORIZON],
    [[STEP] * (HORIZON - 1) + [GOAL], [STEP] * (HORIZON - 1) + [GOAL]],
)


def test_episodes_are_read_from_trials_of_any_length() -> None:
    success, length = searches_of(TRIALS, 2)
    assert success.tolist() == [[True, True], [False, True], [True, False], [True, True]]
    assert length.tolist() == [[3, 1], [4, 2], [2, 4], [4, 4]]


def test_the_figures() -> None:
    analysis = VisualMaze(1).analysis(2)
    assert isinstance(analysis, GoalSearches)
    metric = analysis.make_metric(sync_on_compute=False)
    for chunk in TRIALS.split([1, 3]):
        analysis.add(metric, chunk)
    found = metric.compute()
    assert [estimate.value for estimate in found.success] == [0.75, 0.75]
    assert [estimate.value for estimate in found.length] == [13 / 4, 11 / 4]
    assert found.improved.value == 0.5, "as long as before is not shorter"
    # For 0, 1, 1, 1 the standard deviation is 1/2, and the standard error of the mean 1/4.
    assert math.isclose(found.success[0].half_width, 1.96 / 4)
    assert list(found.estimates()) == [
        "success_episode_1",
        "success_episode_2",
        "length_episode_1",
        "length_episode_2",
        "improved",
    ]


def test_an_episode_that_was_not_played_does_not_count() -> None:
    metric = SearchMetric(3, sync_on_compute=False)
    metric.update(TRIALS)
    found = metric.compute()
    assert found.length[1].value == 11 / 4
    assert math.isnan(found.length[2].value)
    assert found.improved == Estimate(0.5, found.improved.half_width)


def test_one_episode_alone_is_not_analysed() -> None:
    assert VisualMaze(1).analysis(1) is None
