"""The analysis of choices: counts by hand, valid intervals, and distinguishable players."""

import io
import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.image import imread

from rl2_lightning import keys
from rl2_lightning.families.play import play_reference_trials
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.families.two_step import TwoStep
from rl2_lightning.families.two_step.choice_regression import TwoStepChoices, choices_of
from rl2_lightning.families.two_step.stay_probabilities import (
    StayProbabilities,
    StayProbabilityMetric,
    count_repeats,
)
from tests.families.draws import seeded

ANALYSIS = TwoStep(1).analysis(100)


def played(name: str, num_trials: int = 500, seed: int = 0, num_episodes: int = 100):
    return choices_of(played_trials(name, num_trials, seed, num_episodes))


def played_trials(name: str, num_trials: int, seed: int = 0, num_episodes: int = 100):
    env = TwoStep(num_trials)
    env.set_seed(seed)
    player, tasks = env.players(num_episodes)[name], env.sample_tasks(num_trials)
    return play_reference_trials(player, env, tasks, num_episodes, seeded(seed + 1))


def analysed(*batches: TwoStepChoices) -> StayProbabilities:
    metric = StayProbabilityMetric()
    for batch in batches:
        metric.update(batch)
    return metric.compute()


def test_choices_are_read_from_trials():
    env = TrialEnv(TwoStep(200, common_probability=0.75), steps_per_trial=9)
    env.set_seed(5)
    trials = env.rollout(9)
    choices = choices_of(trials)
    assert [entry.shape for entry in choices] == [(200, 4)] * 3  # the last step is half an episode
    for episode in range(4):
        first, second = trials[:, 2 * episode], trials[:, 2 * episode + 1]
        assert torch.equal(choices.first_action[:, episode], first[keys.ACTION])
        reached = second[keys.OBSERVATION].argmax(1)
        assert torch.equal(choices.is_common[:, episode], reached == first[keys.ACTION] + 1)
        reward = second[keys.NEXT, keys.STEP_REWARD].squeeze(1)
        assert torch.equal(choices.reward[:, episode], reward)
    assert choices.is_common.float().mean().item() == pytest.approx(0.75, abs=0.06)


def test_counts_by_hand():
    choices = TwoStepChoices(
        first_action=torch.tensor([[0, 0, 1, 1, 1, 0]]),
        is_common=torch.tensor([[True, False, True, True, False, True]]),
        reward=torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.0, 1.0]]),
    )
    # Before the five last episodes: (1, common) repeats, (1, rare) changes, (0, common) repeats,
    # (1, common) repeats, (0, rare) changes.
    assert count_repeats(choices).tolist() == [[2, 0, 1, 0, 2, 1, 1, 1]]


def test_probabilities_are_those_of_a_literal_count():
    choices = played("model_free", num_trials=50)
    cells: dict[tuple[bool, bool], list[bool]] = {}
    for trial in range(50):
        action, common, reward = (entry[trial].tolist() for entry in choices)
        for e in range(1, 100):
            key = (reward[e - 1] > 0, common[e - 1])
            cells.setdefault(key, []).append(action[e] == action[e - 1])
    rates = {key: sum(stays) / len(stays) for key, stays in cells.items()}
    found = analysed(choices)
    order = [(True, True), (True, False), (False, True), (False, False)]
    values = [estimate.value for estimate in found.probabilities]
    assert values == pytest.approx([rates[key] for key in order], abs=1e-12)
    rc, rr, uc, ur = values
    assert found.reward_effect.value == pytest.approx((rc + rr - uc - ur) / 2)
    assert found.interaction.value == pytest.approx((rc - rr) - (uc - ur))
    assert found.num_trials == 50


def test_batches_add_up():
    choices = played("model_based", num_trials=60)
    parts = [
        TwoStepChoices(*(entry[rows] for entry in choices)) for rows in (range(20), range(20, 60))
    ]
    whole, added = analysed(choices).estimates(), analysed(*parts).estimates()
    for name, estimate in whole.items():
        assert added[name] == pytest.approx(estimate)


@pytest.mark.parametrize("name", ["model_free", "model_based"])
def test_the_intervals_are_as_wide_as_the_spread_of_repetitions(name):
    choices = played(name, num_trials=200 * 50, num_episodes=50)
    groups = [
        analysed(TwoStepChoices(*(entry[50 * i : 50 * (i + 1)] for entry in choices)))
        for i in range(200)
    ]
    for quantity in groups[0].estimates():
        values = torch.tensor([group.estimates()[quantity].value for group in groups])
        told = torch.tensor([group.estimates()[quantity].half_width for group in groups]) / 1.96
        assert told.mean().item() == pytest.approx(values.std().item(), rel=0.2)


def test_a_random_player_shows_no_effect():
    found = analysed(played("random", num_trials=2000))
    for name, estimate in found.estimates().items():
        if "stay" not in name:
            assert abs(estimate.value) < 1.5 * estimate.half_width < 0.05
    assert found.probabilities[0].value == pytest.approx(0.5, abs=0.01)


def test_a_model_based_player_repeats_what_the_model_says():
    found = analysed(played("model_based"))
    rc, rr, uc, ur = (estimate.value for estimate in found.probabilities)
    assert min(rc, ur) > max(rr, uc) + 0.2
    assert found.interaction.value > 0.5 + found.interaction.half_width
    assert found.adjusted_interaction.value > 0.4 + found.adjusted_interaction.half_width
    for effect in (found.reward_effect, found.adjusted_reward_effect):
        assert abs(effect.value) < 0.03


@pytest.mark.parametrize("learning_rate", [0.1, 0.2, 0.5, 0.8])
def test_a_model_free_player_repeats_what_was_rewarded(monkeypatch, learning_rate):
    monkeypatch.setattr("rl2_lightning.families.two_step.players.LEARNING_RATE", learning_rate)
    found = analysed(played("model_free"))
    # The longer its memory, the more it repeats actions that were good before, and these earn by
    # the common transition: by the probabilities alone it would seem partly model-based.
    assert found.interaction.value > 0.05
    # The adjusted effects separate the two.
    assert found.adjusted_reward_effect.value > 0.08 + found.adjusted_reward_effect.half_width
    assert abs(found.adjusted_interaction.value) < 0.05


def test_the_regression_is_that_of_least_squares():
    choices = played("model_free", num_trials=40, num_episodes=30)
    rows, signs = [], []
    for trial in range(40):
        action, common, reward = (entry[trial].tolist() for entry in choices)
        sign = [2 * a - 1 for a in action]
        for e in range(5, 30):
            row = []
            for lag in range(1, 6):
                cell = 2 * (reward[e - lag] == 0) + (not common[e - lag])
                row += [sign[e - lag] if cell == column else 0 for column in range(4)]
            rows.append([*row, 1])
            signs.append(sign[e])
    (rc, rr, uc, ur, *_), *_ = np.linalg.lstsq(np.array(rows), np.array(signs), rcond=None)
    found = analysed(choices)
    assert found.adjusted_reward_effect.value == pytest.approx((rc + rr - uc - ur) / 4)
    assert found.adjusted_interaction.value == pytest.approx((rc - rr - uc + ur) / 2)


def test_a_player_that_never_changes_cannot_be_read():
    choices = played("random", num_trials=50)
    found = analysed(choices._replace(first_action=torch.zeros_like(choices.first_action)))
    assert [estimate.value for estimate in found.probabilities] == [1, 1, 1, 1]
    assert math.isnan(found.adjusted_interaction.value)


def test_what_was_not_met_is_not_a_number():
    choices = TwoStepChoices(
        first_action=torch.tensor([[0, 0], [1, 0]]),
        is_common=torch.tensor([[True, True], [True, True]]),
        reward=torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
    )
    found = analysed(choices)
    assert found.probabilities[0].value == 0.5
    assert found.probabilities[0].half_width == pytest.approx(1.96 * 0.5)
    assert all(math.isnan(estimate.value) for estimate in found.probabilities[1:])
    assert math.isnan(found.interaction.value)
    assert math.isnan(found.adjusted_interaction.value), "the trial is too short for it"
    title = ANALYSIS.figure({"one": found}, "title").axes[0].get_title()
    assert title == "one\nadjusted reward: not measured\nadjusted interaction: not measured"


def test_the_analysis_reads_what_an_evaluation_keeps():
    trials = played_trials("model_free", num_trials=30)
    assert set(TwoStep.recorded_keys) <= set(trials.keys())
    metric = ANALYSIS.make_metric(sync_on_compute=False)
    for batch in trials.split(10):
        ANALYSIS.add(metric, batch)
    assert metric.compute().num_trials == 30
    assert metric.compute() == analysed(*(choices_of(batch) for batch in trials.split(10)))


def test_the_references_are_players_of_the_family():
    assert set(ANALYSIS.references) < set(TwoStep(1).players(10))
    assert set(ANALYSIS.main_figures) < set(analysed(played("random", 20)).estimates())


def test_the_figure_shows_each_player():
    players = {"player_one": analysed(played("model_free")), "two": analysed(played("model_based"))}
    figure = ANALYSIS.figure(players, "title")
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["player one", "two"]
    # Bars are drawn by transition, common first: after a reward, and after no reward.
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    rc, rr, uc, ur = (estimate.value for estimate in players["player_one"].probabilities)
    assert heights == pytest.approx([rc, uc, rr, ur])
    assert players["two"].adjusted_interaction.text() in figure.axes[1].get_title()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    assert imread(file)[..., :3].std() > 0.05
    assert pyplot.get_fignums() == []
