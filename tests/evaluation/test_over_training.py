"""The figure of how adaptation emerges over a training."""

import pytest
import torch
from matplotlib.colors import to_rgb

from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.over_training import (
    MOST_CURVES,
    Validations,
    over_training_figure,
)


def curve(level: float, num_episodes: int) -> Curve:
    mean = level * torch.arange(1, num_episodes + 1, dtype=torch.float64)
    return Curve(mean, torch.full_like(mean, 0.1), mean.sum().item(), 0.1, 100)


def validations(num: int, num_episodes: int = 4) -> Validations:
    curves = {100 * place: curve(place / num, num_episodes) for place in range(1, num + 1)}
    references = {"random": curve(0.1, num_episodes), "the_best": curve(1.2, num_episodes)}
    return Validations({"greedy": curves, "sampled": curves}, references)


def agent_lines(axes) -> list:
    return [line for line in axes.lines if line.get_zorder() == 5]


@pytest.mark.parametrize("num", [2, MOST_CURVES, 40])
def test_a_line_for_each_of_some_validations(num: int) -> None:
    figure = over_training_figure(validations(num), "title")
    greedy, sampled, bar = figure.axes
    lines = agent_lines(greedy)
    assert len(lines) == len(agent_lines(sampled)) <= min(num, MOST_CURVES)
    assert len(lines) > min(num, MOST_CURVES) // 2
    first, last = lines[0], lines[-1]
    assert first.get_ydata() == pytest.approx([n / num for n in range(1, 5)])
    assert last.get_ydata() == pytest.approx([1, 2, 3, 4])
    assert sum(to_rgb(first.get_color())) > sum(to_rgb(last.get_color())), "from light to dark"
    assert bar.get_ylabel() == "env steps of training"
    assert (greedy.get_title("left"), sampled.get_title("left")) == (
        "agent, greedy",
        "agent, sampled",
    )
    assert greedy.get_xlabel() == "episode"
    assert greedy.get_ylabel() == "mean return of the episode"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["random", "the best (reference)"]
    assert render(figure).std() > 5


def test_a_trial_of_one_episode_is_drawn_against_env_steps() -> None:
    figure = over_training_figure(validations(5, num_episodes=1), "title")
    greedy = figure.axes[0]
    assert greedy.get_xlabel() == "env steps of training"
    line = next(one for one in greedy.lines if one.get_label().startswith("agent"))
    assert line.get_xdata().tolist() == [100, 200, 300, 400, 500]
    assert line.get_ydata() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert len(figure.axes) == 2, "no bar of colours"


def test_without_reference_players() -> None:
    found = validations(3)
    figure = over_training_figure(Validations(found.agents, {}), "title")
    assert len(agent_lines(figure.axes[0])) == 3
    assert render(figure).std() > 5
