"""The places of a family: found by what is observed there, and by the goals of tasks."""

import torch

from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.grid_navi import GridNavi
from rl2_lightning.families.scene import GOAL


def test_a_family_has_none_unless_it_names_them() -> None:
    assert BernoulliBandit(2).places is None


def test_the_places_of_a_grid_are_its_cells() -> None:
    env = GridNavi(64, size=4)
    env.set_seed(3)
    env.reset()
    places, everywhere = env.places, torch.ones(64, 1, dtype=torch.bool)
    assert len(places) == 16
    for _ in range(12):
        actions = torch.randint(5, (64,), generator=env.generator)
        observation, reward, _ = env.advance(actions, everywhere)
        reached = places.of_observations(observation)
        assert torch.equal(places.positions[reached], env.position)
        # The step is rewarded where it reaches the place of the goal.
        is_there = reached == places.of_tasks(env.tasks)
        assert torch.equal(is_there, reward.squeeze(1) > 0)
    assert is_there.any()
    assert torch.equal(places.goals[places.of_tasks(env.tasks)], env.tasks[GOAL])


def test_observations_may_have_any_batch() -> None:
    places = GridNavi(1).places
    shown = places.observations.view(5, 5, 2)
    assert torch.equal(places.of_observations(shown), torch.arange(25).view(5, 5))
