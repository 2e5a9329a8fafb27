"""Constants are read from the shipped table or tuned once."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from rl2_lightning.families import tuning
from rl2_lightning.families.bandits.policies import EpsilonGreedy
from rl2_lightning.families.bernoulli_bandit import BanditTrials, BernoulliBandit
from rl2_lightning.families.tuning import (
    Tuned,
    TunedPlayer,
    TunedTrials,
    mean_returns_of_candidates,
    tuned_constant,
    write_table,
)
from tests.families.bandits import play, random_bandits

PUBLISHED = [BanditTrials(pulls, arms) for pulls in (10, 100, 500) for arms in (5, 10, 50)]


@dataclass(frozen=True)
class SmallTrials(TunedTrials):
    """Candidates that are computed slightly differently by processors, with a separate table."""

    num_arms: int
    max_episodes = 5000

    @property
    def tuned(self):
        candidates = np.geomspace(1e-4, 1, 3).tolist()
        return {"random": Tuned(partial(EpsilonGreedy, self.num_arms), candidates)}

    def make_env(self, num_tasks):
        return BernoulliBandit(num_tasks, num_arms=self.num_arms)


@pytest.fixture
def small_table(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(SmallTrials, "table", tmp_path / "table.csv", raising=False)
    tuning._read_table.cache_clear()
    yield tmp_path / "table.csv"
    tuning._read_table.cache_clear()


@pytest.mark.parametrize("trials", PUBLISHED, ids=lambda trials: trials.name)
def test_published_trials_need_no_tuning(trials, monkeypatch):
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    for name, tuned in trials.tuned.items():
        assert tuned_constant(name, trials) in tuned.candidates


def test_the_shipped_constants():
    trials = BanditTrials(500, 10)
    constants = [tuned_constant(name, trials) for name in trials.tuned]
    assert constants == pytest.approx([0.1, 19, 0.2])


def test_other_trials_are_tuned_once(empty_cache, monkeypatch):
    trials = BanditTrials(6, 3)
    constant = tuned_constant("ucb1", trials)
    assert constant in trials.tuned["ucb1"].candidates
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    assert tuned_constant("ucb1", trials) == constant


def test_each_size_is_tuned_for_itself(empty_cache):
    for trials in (BanditTrials(2, 4), BanditTrials(4, 2), BanditTrials(2, 3)):
        tuned_constant("epsilon_greedy", trials)
    assert len(list(empty_cache.iterdir())) == 3


def test_the_candidate_that_earns_most_is_chosen(empty_cache, monkeypatch):
    # The whole trial counts, not its beginning.
    means = np.array([[9.0, 3.0], [1.0, 5.0], [2.0, 4.0], *[[0.0, 0.0]] * 8])
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", lambda *_: means)
    assert tuned_constant("epsilon_greedy", BanditTrials(2, 3)) == pytest.approx(0.1)


def test_a_tuned_player_plays_with_its_constant():
    tasks = random_bandits(50, 5, seed=0)
    tuned = play(TunedPlayer("epsilon_greedy", BanditTrials(500, 5)), tasks, 20, seed=1)
    assert torch.equal(tuned, play(EpsilonGreedy(5, 0.1), tasks, 20, seed=1))


def test_tasks_are_fewer_where_trials_are_long():
    assert BanditTrials(6, 3).num_tasks() == 2000
    assert BanditTrials(1000, 3).num_tasks() == 500
    assert BanditTrials(6, 3).num_tasks(most=20_000) == 20_000
    assert SmallTrials(1000, 2).num_tasks() == 100


def test_all_candidates_play_the_same_tasks():
    trials = BanditTrials(5, 4)
    means = mean_returns_of_candidates("epsilon_greedy", trials, num_tasks=1500)
    again = mean_returns_of_candidates("epsilon_greedy", trials, num_tasks=1500)
    assert means.shape == (11, 5)
    np.testing.assert_allclose(again, means)
    # In so short a trial, more exploration only costs more.
    assert (np.diff(means[:, -1]) < 0).all()
    assert means[-1] == pytest.approx([0.5, 1, 1.5, 2, 2.5], abs=0.15)


def test_a_table_holds_the_best_candidates_of_all_lengths(small_table, monkeypatch):
    play = SmallTrials(4, 3)
    write_table({play: 70}, with_shorter_trials=True)
    lines = small_table.read_text().splitlines()
    assert f"70 tasks of 4 episodes (seed {tuning.SEED})" in lines[1]
    assert lines[2] == "num_episodes,num_arms,random"
    rows = [[int(number) for number in line.split(",")] for line in lines[3:]]
    assert [row[:2] for row in rows] == [[1, 3], [2, 3], [3, 3], [4, 3]]
    means = mean_returns_of_candidates("random", play, 70)
    assert [row[2] for row in rows] == means.argmax(0).tolist()
    # A long play begins like a shorter one.
    shorter = mean_returns_of_candidates("random", SmallTrials(2, 3), 70)
    np.testing.assert_allclose(shorter, means[:, :2])
    monkeypatch.setattr(tuning, "mean_returns_of_candidates", None)
    constants = [tuned_constant("random", SmallTrials(length, 3)) for length in (1, 2, 3, 4)]
    assert constants == pytest.approx([10.0 ** (2 * row[2] - 4) for row in rows])


def test_a_table_of_some_lengths(small_table):
    write_table({SmallTrials(3, 2): 40, SmallTrials(2, 4): 30})
    lines = small_table.read_text().splitlines()
    assert "40 tasks of 3, 30 tasks of 2 episodes" in lines[1]
    assert [line.split(",")[:2] for line in lines[3:]] == [["3", "2"], ["2", "4"]]
