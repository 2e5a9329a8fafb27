"""What the analysis of the two-step task leaves behind after a test of the whole program."""

import csv
from pathlib import Path

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command_line.program import SMALL, call_program, mistake_told

EFFECTS = {"reward_effect", "interaction", "adjusted_reward_effect", "adjusted_interaction"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, whose agent has learnt nothing."""
    folder = tmp_path_factory.mktemp("two_step")
    length = (
        "trial.episodes_per_trial=40",
        "evaluation.test_tasks=400",
        "evaluation.batch_size=400",
    )
    call_program(folder, *SMALL, "experiment=two_step", *length, f"hydra.run.dir={folder}")
    return folder


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "stay_probabilities.csv").open(newline="") as file:
        return {(row["player"], row["quantity"]): row for row in csv.DictReader(file)}


def test_the_table(folder: Path):
    table = rows(folder)
    players = ["agent_greedy", "agent_sampled", "model_free", "model_based"]
    assert list(dict.fromkeys(player for player, _ in table)) == players
    assert len(table) == 4 * 8
    value = {key: float(row["value"]) for key, row in table.items() if row["value"]}
    assert value["model_based", "adjusted_interaction"] > 0.4
    assert abs(value["model_based", "adjusted_reward_effect"]) < 0.1
    assert value["model_free", "adjusted_reward_effect"] > 0.2
    assert abs(value["model_free", "adjusted_interaction"]) < 0.1
    # The first policy is next to uniform.
    stay = table["agent_sampled", "stay_rewarded_common"]
    assert float(stay["value"]) == pytest.approx(0.5, abs=0.1)
    assert 0 < float(stay["half_width"]) < 0.1


def test_the_picture_and_tensorboard(folder: Path):
    assert imread(folder / "stay_probabilities.png").std() > 0.05
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert "test/stay_probabilities" in events.Tags()["images"]
    logged = {f"test/stay_{effect}_sampled" for effect in EFFECTS}
    assert logged <= set(events.Tags()["scalars"])
    value = events.Scalars("test/stay_interaction_sampled")[0].value
    table = rows(folder)
    assert value == pytest.approx(float(table["agent_sampled", "interaction"]["value"]), abs=1e-5)


def test_the_agent_is_read_in_both_ways_of_acting(folder: Path):
    table = rows(folder)
    # A greedy agent that has learnt nothing repeats itself; one that draws its actions does not.
    greedy = float(table["agent_greedy", "stay_unrewarded_common"]["value"])
    sampled = float(table["agent_sampled", "stay_unrewarded_common"]["value"])
    assert greedy > 0.9 > 0.6 > sampled


def test_another_family_is_refused(tmp_path: Path):
    told = mistake_told(tmp_path, *SMALL, "experiment=two_step", "env=bernoulli_bandit")
    assert told == (
        "error: callbacks.stay_probabilities with tasks of BernoulliBandit: it reads those of "
        "TwoStep; set callbacks.stay_probabilities=null or env=two_step"
    )
