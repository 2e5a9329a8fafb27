"""The table and the summary at the end of a run."""

import io
import json
import platform
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rl2_lightning.callbacks.closing_table import ClosingTable, closing_table
from rl2_lightning.callbacks.outcome import outcome_of
from rl2_lightning.callbacks.summary import Summary
from tests.callbacks.tiny_fit import NUM_EPISODES, NUM_TASKS, TinyAgent, TinyData, make_trainer


def run(callbacks, max_epochs: int = 4, with_players: bool = True):
    agent, data = TinyAgent(), TinyData(with_players)
    trainer = make_trainer(callbacks, max_epochs)
    trainer.fit(agent, data)
    trainer.test(agent, data, verbose=False)
    return trainer, agent


def test_table_is_sorted_and_the_best_is_bold(capsys):
    trainer, agent = run([ClosingTable()], max_epochs=6)
    lines = [line for line in capsys.readouterr().out.splitlines() if "±" in line or "%" in line]
    assert lines[1].split() == ["greedy", "(reference)", "3", "100.0%"]
    assert lines[2].split() == ["agent", "greedy", "1.80", "±", "0.15", "60.0%"]
    assert lines[3].split() == ["random", "1.5", "50.0%"]
    assert lines[4].split() == ["agent", "sampled", "0.90", "±", "0.15", "30.0%"]
    table = closing_table(outcome_of(trainer, agent, "test"))
    assert [row.style for row in table.rows] == ["bold", None, None, None]


def test_table_is_not_wrapped_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    run([ClosingTable()])
    head = "player mean return of a trial ± 95 % share of the reference"
    assert head in [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_table_without_players():
    trainer, agent = run([], with_players=False)
    file = io.StringIO()
    Console(file=file).print(closing_table(outcome_of(trainer, agent, "test")))
    assert "reference" not in file.getvalue()
    assert "1.20 ± 0.15" in file.getvalue()


def test_summary(tmp_path: Path):
    run([Summary(str(tmp_path), seed=7)])
    summary = json.loads((tmp_path / "summary.json").read_text())
    greedy = summary["agent"]["greedy"]
    assert greedy["trial_return"] == pytest.approx(1.2)
    assert greedy["trial_half_width"] == pytest.approx(1.96 * 0.2 / 7**0.5)
    assert greedy["share_of_reference"] == pytest.approx(0.4)
    assert list(summary["references"]) == ["random", "greedy"]
    assert summary["reference"] == "greedy"
    assert summary["num_tasks"] == NUM_TASKS
    assert summary["num_episodes"] == NUM_EPISODES
    assert (summary["iterations"], summary["env_steps"], summary["seed"]) == (4, 240, 7)
    assert summary["versions"]["python"] == platform.python_version()
    assert summary["versions"]["torch"] == torch.__version__
    assert list(tmp_path.iterdir()) == [tmp_path / "summary.json"]


def test_summary_without_players(tmp_path: Path):
    run([Summary(str(tmp_path), seed=7)], with_players=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["reference"] is None
    assert summary["agent"]["sampled"]["share_of_reference"] is None


def test_training_time_adds_up_over_resumes(tmp_path: Path):
    def train(max_epochs: int, checkpoint: Path | None) -> float:
        summary = Summary(str(tmp_path), seed=7)
        trainer = make_trainer([summary], max_epochs)
        agent, data = TinyAgent(seconds_per_batch=0.02), TinyData()
        trainer.fit(agent, data, ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / f"{max_epochs}.ckpt")
        trainer.test(agent, data, ckpt_path=checkpoint, verbose=False)
        return json.loads((tmp_path / "summary.json").read_text())["training_seconds"]

    first = train(2, None)
    both = train(4, tmp_path / "2.ckpt")
    assert 2 * 3 * 0.02 < first < both - 2 * 3 * 0.02
