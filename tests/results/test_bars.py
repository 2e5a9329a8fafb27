"""Each kind of bar, just below and just above."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from results.bars import (
    WORLDS,
    Above,
    Adapts,
    Bar,
    Chance,
    EpisodeReturn,
    Finds,
    LaterEpisodes,
    Plans,
    Positive,
    Return,
    Searches,
    ShareOfReference,
    Succeeds,
)
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.families.grid_navi.goal_search import GoalSearch, goal_cells
from rl2_lightning.means import Estimate
from tests.results.builders import straight_curve


def curve(*episodes: float, half_width: float = 0.1) -> Curve:
    flat = straight_curve(sum(episodes), len(episodes), half_width)
    return dataclasses.replace(flat, mean=torch.tensor(episodes, dtype=torch.float64))


# Trial returns of 10 and 30; the reference earns 5, 10, 15 in its episodes.
REFERENCES = {"random": curve(3, 3, 4), "reference": curve(5, 10, 15)}


@pytest.mark.parametrize(
    ("bar", "misses", "reaches"),
    [
        (Return(20), curve(6, 6, 7.9), curve(6, 6, 8)),
        (ShareOfReference(0.9), curve(9, 9, 8.9), curve(9, 9, 9)),
        (LaterEpisodes(0.9), curve(50, 8.9, 50), curve(0, 9, 13.5)),
        (LaterEpisodes(0.9), curve(50, 50, 13.4), curve(-1, 9.1, 50)),
        (EpisodeReturn(2, 5.0), curve(9, 4.9, 9), curve(0, 5, 0)),
        (Positive(2), curve(9, 0.09, 9), curve(-9, 0.11, 0)),
        (Above(("random",)), curve(3, 3, 4.19), curve(3, 3, 4.21)),
        (Above(("random", "reference")), curve(3, 3, 4.21), curve(30, 0, 0.21)),
        (Adapts(), curve(1, 1.19), curve(1, 1.21)),
        (Chance(), curve(3, 3, 4.21), curve(3, 3, 4.19)),
    ],
)
def test_a_bar_is_missed_or_reached(bar: Bar, misses: Curve, reaches: Curve) -> None:
    assert not bar.reached_by(misses, REFERENCES, {})
    assert bar.reached_by(reaches, REFERENCES, {})


def searched(cells: float) -> dict[str, Estimate]:
    return {"search_cells_episode_1_greedy": Estimate(cells, 0.1)}


def test_a_search_has_both_returns_and_cells() -> None:
    bar = Searches(0.9, cells=10.0)
    assert bar.reached_by(curve(4.5, 9, 13.5), REFERENCES, searched(9.1))
    assert bar.reached_by(curve(5, 10, 15), REFERENCES, searched(10.9))
    assert not bar.reached_by(curve(4.4, 10, 15), REFERENCES, searched(10))
    assert not bar.reached_by(curve(5, 8.9, 15), REFERENCES, searched(10))
    for cells in (8.9, 11.1):
        assert not bar.reached_by(curve(5, 10, 15), REFERENCES, searched(cells))


def test_the_best_search_of_grid_navi() -> None:
    visits = GoalSearch(5, 15, 4).first_visits[goal_cells(5)]
    before = [((visits < visit) & (visits <= 15)).sum() for visit in visits]
    bars = [WORLDS[name] for name in ("varibad_grid_navi", "rl2_belief_grid_navi")]
    assert bars == [Searches(0.95, cells=float(np.mean(before)))] * 2


def interaction(value: float) -> dict[str, Estimate]:
    return {"stay_adjusted_interaction_sampled": Estimate(value, 0.1)}


def succeeded(share: float) -> dict[str, Estimate]:
    return {"meta_world_success_greedy": Estimate(share, 0.1)}


def searches(*figures: float) -> dict[str, Estimate]:
    names = ("success_episode_1", "success_episode_2", "length_episode_1", "length_episode_2")
    return {
        f"search_{name}_greedy": Estimate(figure, 0.01)
        for name, figure in zip(names, figures, strict=True)
    }


@pytest.mark.parametrize(
    ("bar", "misses", "reaches"),
    [
        (Plans(does=True), interaction(0.09), interaction(0.11)),
        (Plans(does=True), interaction(-0.2), interaction(0.2)),
        (Plans(does=True), interaction(math.nan), interaction(0.2)),
        (Plans(does=False), interaction(0.11), interaction(0.09)),
        (Plans(does=False), interaction(-0.11), interaction(-0.09)),
        (Succeeds(0.8), succeeded(0.79), succeeded(0.8)),
        (Finds(0.9, 0.15), searches(0.89, 1, 100, 50), searches(0.9, 0.9, 100, 85)),
        (Finds(0.9, 0.15), searches(1, 0.89, 100, 50), searches(1, 1, 40, 34)),
        (Finds(0.9, 0.15), searches(1, 1, 100, 86), searches(1, 1, 100, 10)),
    ],
)
def test_a_bar_on_what_an_analysis_says(
    bar: Bar, misses: dict[str, Estimate], reaches: dict[str, Estimate]
) -> None:
    agent = curve(1, 1, 1)
    assert not bar.reached_by(agent, REFERENCES, misses)
    assert bar.reached_by(agent, REFERENCES, reaches)


def test_a_bar_says_what_it_asks() -> None:
    assert str(Return(6.6)) == "6.6"
    assert str(ShareOfReference(0.99)) == "99% of the reference"
    assert str(Above(("ucb1", "some_player"))) == "above ucb1 and some player"
    assert str(Plans(does=False)) == "reward × transition: no interaction"
    assert str(Finds(0.9, 0.15)) == "90% success, episode 2 15% shorter"
