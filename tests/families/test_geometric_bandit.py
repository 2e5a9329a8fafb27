"""Bandits whose trials end at an unknown time, and the player that knows the probability."""

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.geometric_bandit import GeometricBandit
from rl2_lightning.families.play import play_reference, play_reference_trials

NUM_TASKS = 4000


def lengths(bandits: GeometricBandit) -> torch.Tensor:
    """The numbers of pulls of random play, `[B]`, float."""
    bandits.set_seed(1)
    tasks = bandits.sample_tasks(bandits.num_tasks)
    player = bandits.players(1)["random"]
    steps = play_reference_trials(player, bandits, tasks, 1, torch.Generator().manual_seed(2))
    return steps[keys.MASK].sum(dim=(1, 2)).float()


@pytest.mark.parametrize("continuation", [0.5, 0.9])
def test_lengths_are_geometric(continuation: float) -> None:
    found = lengths(GeometricBandit(NUM_TASKS, continuation=continuation, horizon=200))
    mean, std = 1 / (1 - continuation), continuation**0.5 / (1 - continuation)
    assert found.mean() == pytest.approx(mean, abs=4 * std / NUM_TASKS**0.5)
    assert found.min() == 1
    # Those that have reached five pulls have as many left as all had at first.
    left = found[found > 5] - 5
    assert left.mean() == pytest.approx(mean, abs=5 * std / len(left) ** 0.5)


@pytest.mark.parametrize(("continuation", "length"), [(0.0, 1), (1.0, 30)])
def test_lengths_at_the_ends_of_the_range(continuation: float, length: int) -> None:
    found = lengths(GeometricBandit(20, continuation=continuation, horizon=30))
    assert (found == length).all()


def test_the_player_that_knows_the_probability_is_the_best() -> None:
    bandits = GeometricBandit(NUM_TASKS, num_arms=3)
    tasks = bandits.sample_tasks(NUM_TASKS)
    players = bandits.players(1)
    assert list(players)[-1] == "gittins"
    found = {}
    for name, player in players.items():
        generator = torch.Generator().manual_seed(3)
        returns = play_reference(player, bandits, tasks, 1, generator)
        found[name] = returns.mean().item()
    assert max(found, key=found.get) == "gittins"
    # 20 pulls on average.
    assert found["random"] == pytest.approx(10, abs=0.7)
    assert "gittins" not in bandits.players(2)


def test_a_probability_above_one_is_told() -> None:
    with pytest.raises(UserError, match=r"^env.continuation=1.5 is out of range: .* at most 1$"):
        GeometricBandit(2, continuation=1.5)
