"""What each kind of bar asks of an agent, just below it and just above."""

import dataclasses

import pytest
import torch

from results.bars import Above, Adapts, Bar, LaterEpisodes, Return, ShareOfReference
from rl2_lightning.evaluation.adaptation_curve import Curve
from tests.results.builders import straight_curve


def curve(*episodes: float, half_width: float = 0.1) -> Curve:
    flat = straight_curve(sum(episodes), len(episodes), half_width)
    return dataclasses.replace(flat, mean=torch.tensor(episodes, dtype=torch.float64))


# Of 10 and 30 in a trial; the reference earns 5, 10, 15 in its episodes.
ORACLES = {"random": curve(3, 3, 4), "reference": curve(5, 10, 15)}


@pytest.mark.parametrize(
    ("bar", "misses", "reaches"),
    [
        (Return(20), curve(6, 6, 7.9), curve(6, 6, 8)),
        (ShareOfReference(0.9), curve(9, 9, 8.9), curve(9, 9, 9)),
        (LaterEpisodes(0.9), curve(50, 8.9, 50), curve(0, 9, 13.5)),
        (LaterEpisodes(0.9), curve(50, 50, 13.4), curve(-1, 9.1, 50)),
        (Above(("random",)), curve(3, 3, 4.19), curve(3, 3, 4.21)),
        (Above(("random", "reference")), curve(3, 3, 4.21), curve(30, 0, 0.21)),
        (Adapts(), curve(1, 1.19), curve(1, 1.21)),
    ],
)
def test_a_bar_is_missed_or_reached(bar: Bar, misses: Curve, reaches: Curve) -> None:
    assert not bar.reached_by(misses, ORACLES)
    assert bar.reached_by(reaches, ORACLES)


def test_a_bar_says_what_it_asks() -> None:
    assert str(Return(6.6)) == "6.6"
    assert str(ShareOfReference(0.99)) == "99% of the reference"
    assert str(Above(("ucb1", "some_player"))) == "above ucb1 and some player"
