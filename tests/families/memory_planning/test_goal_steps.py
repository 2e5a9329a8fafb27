"""The steps for the goals of a trial, compared to a literal loop."""

import math

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.families.memory_planning import MemoryPlanning
from rl2_lightning.families.memory_planning.goal_steps import NUM_GOALS, steps_per_goal


def played(*rewards: list[float], length: int = 60) -> TensorDict:
    """Trials with given rewards, and garbage on the idle tails."""
    reward = torch.full((len(rewards), length, 1), math.nan)
    mask = torch.zeros(len(rewards), length, 1, dtype=torch.bool)
    for row, values in enumerate(rewards):
        reward[row, : len(values), 0] = torch.tensor(values)
        mask[row, : len(values)] = True
    return TensorDict({keys.REWARD: reward, keys.MASK: mask}, [len(rewards), length])


TRIALS = played([0, 0, 1, 1, 0], [0, 1], [0, 0, 0], [1] * 60)


def test_steps_are_counted_up_to_the_one_that_collects() -> None:
    steps, reached = steps_per_goal(TRIALS)
    assert steps[:3, :4].tolist() == [[3, 1, 1, 0], [2, 0, 0, 0], [3, 0, 0, 0]]
    assert reached[:3, :4].int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert (steps[3] == 1).all()
    assert reached[3].all()
    assert steps.shape == reached.shape == (4, NUM_GOALS)


def test_the_figures() -> None:
    analysis = MemoryPlanning(1).analysis(1)
    metric = analysis.make_metric(sync_on_compute=False)
    for chunk in TRIALS.split([1, 3]):
        analysis.add(metric, chunk)
    found = metric.compute().estimates()
    assert len(found) == 2 * NUM_GOALS
    assert found["steps_1"].value == (3 + 2 + 3 + 1) / 4
    assert found["steps_2"].value == 1, "of the two trials that were asked for a second one"
    assert [found[f"reached_{goal}"].value for goal in (1, 2, 3)] == [0.75, 0.5, 0.25]
    # For 1, 1, 0, 1 the standard deviation is 1/2, and the standard error of the mean 1/4.
    assert found["reached_1"].half_width == pytest.approx(1.96 / 4)
    assert set(analysis.main_figures) <= set(found)


def test_the_picture() -> None:
    analysis = MemoryPlanning(1).analysis(1)
    metric = analysis.make_metric(sync_on_compute=False)
    analysis.add(metric, TRIALS)
    figure = analysis.figure({"agent greedy": metric.compute()}, "a title")
    (axes,) = figure.axes
    assert axes.get_legend_handles_labels()[1] == ["agent greedy"]
    assert axes.lines[0].get_ydata()[0] == (3 + 2 + 3 + 1) / 4
