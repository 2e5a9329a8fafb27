"""The output of the family's own analysis after a test of the whole program."""

import csv
from pathlib import Path

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command_line.program import SMALL, call_program

EFFECTS = {"reward_effect", "interaction", "adjusted_reward_effect", "adjusted_interaction"}


def rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as file:
        return {(row["player"], row["quantity"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of the two-step task with an untrained agent."""
    folder = tmp_path_factory.mktemp("two_step")
    length = (
        "trial.episodes_per_trial=40",
        "evaluation.test_tasks=400",
        "evaluation.batch_size=400",
    )
    call_program(folder, *SMALL, "experiment=two_step", *length, f"hydra.run.dir={folder}")
    return folder


def test_the_table(folder: Path) -> None:
    table = rows(folder / "stay_probabilities.csv")
    players = ["agent_greedy", "agent_sampled", "model_free", "model_based"]
    assert list(dict.fromkeys(player for player, _ in table)) == players
    assert len(table) == 4 * 8
    value = {key: float(row["value"]) for key, row in table.items() if row["value"]}
    assert value["model_based", "adjusted_interaction"] > 0.4
    assert abs(value["model_based", "adjusted_reward_effect"]) < 0.1
    assert value["model_free", "adjusted_reward_effect"] > 0.2
    assert abs(value["model_free", "adjusted_interaction"]) < 0.1
    # The initial policy is nearly uniform.
    stay = table["agent_sampled", "stay_rewarded_common"]
    assert float(stay["value"]) == pytest.approx(0.5, abs=0.1)
    assert 0 < float(stay["half_width"]) < 0.1


def test_the_picture_and_tensorboard(folder: Path) -> None:
    assert imread(folder / "stay_probabilities.png").std() > 0.05
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert "test/stay_probabilities" in events.Tags()["images"]
    logged = {f"test/stay_{effect}_sampled" for effect in EFFECTS}
    assert logged <= set(events.Tags()["scalars"])
    value = events.Scalars("test/stay_interaction_sampled")[0].value
    table = rows(folder / "stay_probabilities.csv")
    assert value == pytest.approx(float(table["agent_sampled", "interaction"]["value"]), abs=1e-5)


def test_the_agent_is_read_in_both_ways_of_acting(folder: Path) -> None:
    table = rows(folder / "stay_probabilities.csv")
    # An untrained greedy agent repeats itself; one that samples does not.
    greedy = float(table["agent_greedy", "stay_unrewarded_common"]["value"])
    sampled = float(table["agent_sampled", "stay_unrewarded_common"]["value"])
    assert greedy > 0.9 > 0.6 > sampled


def test_an_analysis_without_a_picture(tmp_path: Path) -> None:
    mazes = ("experiment=maze_3x3", "env.horizon=12", "env.num_training_mazes=10")
    call_program(tmp_path, *SMALL, *mazes, f"hydra.run.dir={tmp_path}")
    table = rows(tmp_path / "goal_searches.csv")
    assert len(table) == 2 * 5
    values = {key: float(row["value"]) for key, row in table.items()}
    for player in ("agent_greedy", "agent_sampled"):
        for episode in (1, 2):
            success = values[player, f"success_episode_{episode}"]
            length = values[player, f"length_episode_{episode}"]
            assert 0 <= success <= 1
            # A failed search takes all steps, and a successful one at least one.
            assert 12 * (1 - success) + success <= length <= 12
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = events.Scalars("test/search_length_episode_2_sampled")[0].value
    assert logged == pytest.approx(values["agent_sampled", "length_episode_2"])
    assert not (tmp_path / "goal_searches.png").exists()


@pytest.mark.parametrize(
    "choice", ["env=bernoulli_bandit", "env=visual_maze env.horizon=6 trial.episodes_per_trial=1"]
)
def test_nothing_is_written_where_there_is_nothing_to_tell(tmp_path: Path, choice: str) -> None:
    typed = (*SMALL, *choice.split())
    call_program(tmp_path, *typed, f"hydra.run.dir={tmp_path}")
    assert [path.name for path in tmp_path.glob("*.csv")] == ["adaptation_curve.csv"]
