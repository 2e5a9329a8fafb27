"""The constants of the tuned players of tabular MDPs."""

import runpy

import numpy as np
import pytest

from rl2_lightning.families import tuning
from rl2_lightning.families.tabular_mdp import TabularMDP
from rl2_lightning.families.tabular_mdp.env import TabularTrials
from rl2_lightning.families.tuning import mean_returns_of_candidates, tuned_constant


@pytest.mark.parametrize("num_episodes", [1, 10, 25, 50, 75, 100])
def test_published_trials_need_no_tuning(num_episodes, monkeypatch):
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    trials = TabularTrials(num_episodes, 10, 5, 10)
    for name, tuned in trials.tuned.items():
        assert tuned_constant(name, trials) in tuned.candidates


def test_other_trials_are_tuned_once(empty_cache, monkeypatch):
    trials = TabularTrials(3, 4, 2, 3)
    constant = tuned_constant("beb", trials)
    assert constant in trials.tuned["beb"].candidates
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    assert tuned_constant("beb", trials) == constant


def test_each_size_is_tuned_for_itself(empty_cache):
    for trials in (TabularTrials(2, 4, 2, 3), TabularTrials(2, 4, 3, 2), TabularTrials(2, 3, 2, 4)):
        tuned_constant("epsilon_greedy", trials)
    assert len(list(empty_cache.iterdir())) == 3


def test_players_are_tuned_on_what_is_played():
    env = TabularTrials(2, 4, 3, 6).make_env(7)
    assert env.num_tasks == 7
    assert env.settings == TabularMDP(1, num_states=4, num_actions=3, horizon=6).settings


def test_tasks_are_fewer_where_trials_are_long():
    assert TabularTrials(10, 4, 2, 3).num_tasks() == 500
    assert TabularTrials(1000, 4, 2, 3).num_tasks() == 100


def test_a_long_play_decides_the_constants_of_shorter_ones():
    longer = mean_returns_of_candidates("beb", TabularTrials(3, 4, 2, 3), 50)
    shorter = mean_returns_of_candidates("beb", TabularTrials(2, 4, 2, 3), 50)
    assert np.array_equal(shorter, longer[:, :2])


def test_the_package_writes_its_table(monkeypatch):
    written = []
    monkeypatch.setattr(tuning, "write_table", lambda *given, **options: written.append(given[0]))
    runpy.run_module("rl2_lightning.families.tabular_mdp", run_name="__main__")
    assert written == [{TabularTrials(100, 10, 5, 10): 1000}]
