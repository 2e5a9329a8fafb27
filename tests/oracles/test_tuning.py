"""The constants come from the shipped tables, or are tuned once."""

import numpy as np
import pytest

from rl2_lightning.oracles import bandits, tabular, tuning
from rl2_lightning.oracles.bandits import BanditTrials
from rl2_lightning.oracles.tabular import TabularTrials
from rl2_lightning.oracles.tuning import mean_returns_of_candidates, tuned_constant

PUBLISHED = [
    *[BanditTrials(pulls, arms) for pulls in (10, 100, 500) for arms in (5, 10, 50)],
    *[TabularTrials(episodes, 10, 5, 10) for episodes in (10, 25, 50, 75, 100)],
]


@pytest.mark.parametrize("trials", PUBLISHED, ids=lambda trials: trials.name)
def test_published_trials_need_no_tuning(trials, monkeypatch):
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    for name, family in trials.families.items():
        assert tuned_constant(name, trials) in family.candidates


@pytest.mark.parametrize(
    ("name", "trials"), [("ucb1", BanditTrials(6, 3)), ("beb", TabularTrials(3, 4, 2, 3))]
)
def test_other_trials_are_tuned_once(name, trials, empty_cache, monkeypatch):
    constant = tuned_constant(name, trials)
    assert constant in trials.families[name].candidates
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    assert tuned_constant(name, trials) == constant


def test_each_size_is_tuned_for_itself(empty_cache):
    for trials in (TabularTrials(2, 4, 2, 3), TabularTrials(2, 4, 3, 2), TabularTrials(2, 3, 2, 4)):
        tuned_constant("epsilon_greedy", trials)
    assert len(list(empty_cache.iterdir())) == 3


def test_the_candidate_that_earns_most_is_chosen(empty_cache, monkeypatch):
    # What counts is the whole trial, not its beginning.
    means = np.array([[9.0, 3.0], [1.0, 5.0], [2.0, 4.0], *[[0.0, 0.0]] * 8])
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", lambda *_: means)
    assert tuned_constant("epsilon_greedy", BanditTrials(2, 3)) == 0.1


def test_tasks_are_fewer_where_trials_are_long():
    assert BanditTrials(6, 3).num_tasks() == 2000
    assert BanditTrials(1000, 3).num_tasks() == 500
    assert TabularTrials(10, 4, 2, 3).num_tasks() == 500
    assert TabularTrials(1000, 4, 2, 3).num_tasks() == 100


def test_all_candidates_play_the_same_tasks():
    trials = BanditTrials(5, 4)
    means = mean_returns_of_candidates("epsilon_greedy", trials, num_tasks=1500)
    again = mean_returns_of_candidates("epsilon_greedy", trials, num_tasks=1500)
    assert means.shape == (11, 5)
    assert np.array_equal(means, again)
    # Exploration only costs in so short a trial, more the more there is.
    assert (np.diff(means[:, -1]) < 0).all()
    assert means[-1] == pytest.approx([0.5, 1, 1.5, 2, 2.5], abs=0.15)


def test_a_long_play_decides_the_constants_of_shorter_ones():
    play = TabularTrials(3, 4, 2, 3)
    sizes = [(trials.num_episodes, trials.num_states) for trials in play.beginnings()]
    assert sizes == [(1, 4), (2, 4), (3, 4)]
    longer = mean_returns_of_candidates("beb", play, 50)
    shorter = mean_returns_of_candidates("beb", TabularTrials(2, 4, 2, 3), 50)
    assert np.array_equal(shorter, longer[:, :2])


@pytest.fixture
def small_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "__file__", str(tmp_path / "tuning.py"))
    monkeypatch.setattr(bandits, "SHIPPED_PULLS", (3,))
    monkeypatch.setattr(bandits, "SHIPPED_ARMS", (2, 4))
    monkeypatch.setattr(bandits, "SHIPPED_MAX_TASKS", 100)
    monkeypatch.setattr(tabular, "SHIPPED_SIZES", (3, 2, 4))
    monkeypatch.setattr(tabular, "SHIPPED_EPISODES", 2)
    monkeypatch.setattr(tabular, "SHIPPED_TASKS", 70)
    return tmp_path


def test_the_command_writes_the_table_of_bandits(small_tables):
    tuning.main(["bandits"])
    assert not (small_tables / TabularTrials.table).exists()
    lines = (small_tables / BanditTrials.table).read_text().splitlines()
    assert lines[0] == "# Written by: python -m rl2_lightning.oracles.tuning"
    assert "on 100 tasks of 3 pulls (seed" in lines[1]
    assert lines[2] == "num_pulls,num_arms,epsilon_greedy,optimistic_thompson,ucb1"
    assert [line.split(",")[:2] for line in lines[3:]] == [["3", "2"], ["3", "4"]]


def test_the_command_writes_the_table_of_mdps(small_tables):
    tuning.main([])
    assert (small_tables / BanditTrials.table).exists()
    lines = (small_tables / TabularTrials.table).read_text().splitlines()
    assert "on 70 tasks of 2 episodes (seed" in lines[1]
    header = lines[2].split(",")
    trials = TabularTrials(2, 3, 2, 4)
    assert header[:4] == ["num_episodes", "num_states", "num_actions", "horizon"]
    assert header[4:] == list(trials.families)
    rows = [line.split(",") for line in lines[3:]]
    assert [row[:4] for row in rows] == [["1", "3", "2", "4"], ["2", "3", "2", "4"]]
    for name, constant in zip(header[4:], rows[1][4:], strict=True):
        means = mean_returns_of_candidates(name, trials, 70)
        best = trials.families[name].candidates[int(means[:, 1].argmax())]
        assert float(constant) == best


def test_an_unknown_table_is_refused(small_tables, capsys):
    with pytest.raises(SystemExit):
        tuning.main(["bandit"])
    assert "invalid choice: 'bandit'" in capsys.readouterr().err
