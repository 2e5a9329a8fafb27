"""The figure is drawn and labelled, and players are distinguishable."""

import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.plots import AGENT_COLOURS, adaptation_curve_figure


def make_curve(num_episodes: int, level: float) -> Curve:
    mean = level * (1 - torch.exp(-torch.arange(1.0, num_episodes + 1)))
    half_width = torch.full_like(mean, 0.05)
    return Curve(mean.double(), half_width.double(), mean.sum().item(), 0.1, 100)


def make_figure(num_episodes: int):
    agents = {"agent greedy": make_curve(num_episodes, 0.8)}
    agents["agent sampled"] = make_curve(num_episodes, 0.5)
    levels = {"random": 0.1, "thompson": 0.7, "gittins": 0.9}
    players = {name: make_curve(num_episodes, level) for name, level in levels.items()}
    return adaptation_curve_figure(agents, "title", players, "gittins")


def drawn(figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)[..., :3]


@pytest.mark.parametrize("num_episodes", [1, 10, 25, 500])
def test_the_agent_and_the_reference_are_drawn(num_episodes):
    figure = make_figure(num_episodes)
    image = drawn(figure)
    axes = figure.axes[0]
    box = axes.get_window_extent()
    inside = image[:, int(box.x0) : int(box.x1)]
    for colour in (*AGENT_COLOURS, "#000000"):
        assert (np.abs(inside - to_rgb(colour)).max(-1) < 0.05).sum() > 20
    assert axes.get_xlabel().startswith("episode")
    assert axes.get_ylabel() == "mean return of the episode"
    assert axes.get_xscale() == ("log" if num_episodes == 500 else "linear")


def test_the_legend_is_sorted_by_trial_return():
    labels = [text.get_text().split(":")[0] for text in make_figure(10).legends[0].get_texts()]
    assert labels == [
        "gittins (reference)",
        "agent greedy",
        "thompson",
        "agent sampled",
        "random",
    ]


def test_a_long_trial_is_drawn_in_blocks_that_keep_the_mean():
    curve = Curve(torch.arange(500.0), torch.ones(500), 1.0, 0.1, 100)
    line = adaptation_curve_figure({"agent": curve}, "title").axes[0].lines[0]
    episodes, means = line.get_xdata(), line.get_ydata()
    assert len(episodes) <= 30
    assert (episodes[0], means[0]) == (1.0, 0.0)
    assert np.all(np.diff(episodes) > 0)
    np.testing.assert_allclose(means + 1, episodes, rtol=0.03)


def test_episodes_that_no_trial_reached_are_left_out():
    mean = torch.tensor([1.0, 2.0, torch.nan])
    curve = Curve(mean, torch.tensor([0.1, torch.nan, torch.nan]), 3.0, 0.1, 2)
    figure = adaptation_curve_figure({"agent": curve}, "title")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1.0, 2.0]
    assert drawn(figure).std() > 0


def test_pyplot_does_not_know_the_figure():
    make_figure(10)
    assert pyplot.get_fignums() == []


def test_no_two_of_many_players_look_alike():
    players = {f"player {i}": make_curve(10, 0.1 * i) for i in range(14)}
    agents = {"agent": make_curve(10, 0.8)}
    figure = adaptation_curve_figure(agents, "title", players, "player 13")
    looks = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert len(looks) == 15
    assert len(set(looks)) == 15
