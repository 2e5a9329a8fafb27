"""The constants come from the shipped table, or are tuned once."""

import numpy as np
import pytest

from rl2_lightning.oracles import tuning
from rl2_lightning.oracles.tuning import FAMILIES, mean_returns_of_candidates, tuned_constant


@pytest.mark.parametrize("num_pulls", tuning.SHIPPED_PULLS)
@pytest.mark.parametrize("num_arms", tuning.SHIPPED_ARMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_published_bandits_need_no_tuning(family, num_arms, num_pulls, monkeypatch):
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    assert tuned_constant(family, num_arms, num_pulls) in FAMILIES[family].candidates


def test_other_bandits_are_tuned_once(empty_cache, monkeypatch):
    constant = tuned_constant("ucb1", 3, 6)
    assert constant in FAMILIES["ucb1"].candidates
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    assert tuned_constant("ucb1", 3, 6) == constant


def test_the_candidate_that_earns_most_is_chosen(empty_cache, monkeypatch):
    means = np.array([3.0, 5.0, 4.0, *[0.0] * 8])
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", lambda *_: means)
    assert tuned_constant("epsilon_greedy", 3, 6) == 0.1


def test_all_candidates_play_the_same_tasks():
    means = mean_returns_of_candidates("epsilon_greedy", 4, 5, num_tasks=1500)
    again = mean_returns_of_candidates("epsilon_greedy", 4, 5, num_tasks=1500)
    assert np.array_equal(means, again)
    # Exploration only costs in so short a trial, more the more there is.
    assert (np.diff(means) < 0).all()
    assert means[-1] == pytest.approx(2.5, abs=0.15)


def test_the_command_writes_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "__file__", str(tmp_path / "tuning.py"))
    monkeypatch.setattr(tuning, "SHIPPED_PULLS", (3,))
    monkeypatch.setattr(tuning, "SHIPPED_ARMS", (2, 4))
    monkeypatch.setattr(tuning, "SHIPPED_MAX_TASKS", 100)
    tuning.main()
    lines = (tmp_path / tuning.SHIPPED_TABLE).read_text().splitlines()
    assert lines[0] == "# Written by: python -m rl2_lightning.oracles.tuning"
    assert "100 tasks of 3 pulls" in lines[1]
    assert lines[2] == "num_pulls,num_arms,epsilon_greedy,optimistic_thompson,ucb1"
    assert [line.split(",")[:2] for line in lines[3:]] == [["3", "2"], ["3", "4"]]
