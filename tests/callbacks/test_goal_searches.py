"""What the analysis of mazes leaves behind after a test of the whole program."""

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.command_line.program import SMALL, call_program, mistake_told

ANALYSIS = "callbacks.goal_searches.GoalSearchAnalysis"
MAZES = (*SMALL, "experiment=maze_3x3", "env.horizon=12", "env.num_training_mazes=10")


def test_the_table_and_tensorboard(tmp_path: Path) -> None:
    call_program(tmp_path, *MAZES, f"hydra.run.dir={tmp_path}")
    with (tmp_path / "goal_searches.csv").open(newline="") as file:
        rows = {(row["player"], row["quantity"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 5
    values = {key: float(row["value"]) for key, row in rows.items()}
    for player in ("agent_greedy", "agent_sampled"):
        for episode in (1, 2):
            success = values[player, f"success_episode_{episode}"]
            length = values[player, f"length_episode_{episode}"]
            assert 0 <= success <= 1
            # One that fails takes all steps, and one that succeeds at least one.
            assert 12 * (1 - success) + success <= length <= 12
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = events.Scalars("test/search_length_episode_2_sampled")[0].value
    assert logged == pytest.approx(values["agent_sampled", "length_episode_2"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            [f"+callbacks.goal_searches={{_target_: {ANALYSIS}, dirpath: .}}"],
            "error: callbacks.goal_searches with tasks of BernoulliBandit: it reads those of "
            "VisualMaze; set callbacks.goal_searches=null or env=visual_maze",
        ),
        (
            ["experiment=maze_3x3", "trial.episodes_per_trial=1"],
            "error: callbacks.goal_searches with trial.episodes_per_trial=1: it compares two whole "
            "episodes; set callbacks.goal_searches=null or trial.episodes_per_trial=2",
        ),
    ],
)
def test_what_it_cannot_read_is_refused(tmp_path: Path, given: list[str], told: str) -> None:
    assert mistake_told(tmp_path, *SMALL, *given) == told
