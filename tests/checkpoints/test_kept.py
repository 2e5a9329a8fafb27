"""Checkpoints that earlier versions have written are read, and play as they did.

`kept/` has one file of each format, as it was written then: an agent for 10 pulls of 5 arms, with
seed 1. When the format changes, a file of the former one is added.
"""

import json
from pathlib import Path

import pytest

from rl2_lightning.checkpoint import FORMAT, Checkpoint, load
from tests.command_line.program import call_program, mistake_told

KEPT = Path(__file__).parent / "kept"
# Returns of a trial in 10,000 tasks, greedy, that were written down with the file.
RETURNS = {1: 6.6653, 2: 6.6523}
HALF_WIDTH = 0.0438


def file_of(version: int) -> Path:
    return KEPT / f"format_{version}.ckpt"


def test_a_file_of_each_format_is_kept() -> None:
    found = {path.name: load(path, path.name) for path in KEPT.iterdir()}
    versions = {
        name: content.get("rl2_lightning", {"format": 1}) for name, content in found.items()
    }
    expected = {file_of(number).name: number for number in range(1, FORMAT + 1)}
    assert {name: section["format"] for name, section in versions.items()} == expected
    assert set(RETURNS) == set(expected.values())


@pytest.mark.parametrize("version", RETURNS)
def test_it_plays_as_it_did(tmp_path: Path, version: int) -> None:
    given = ("mode=test", f"ckpt_path={file_of(version)}", "evaluation.test_tasks=2000")
    call_program(tmp_path, *given, "logger=none", f"hydra.run.dir={tmp_path / 'run'}")
    curve = json.loads((tmp_path / "run" / "summary.json").read_text())["agent"]["greedy"]
    difference = curve["trial_return"] - RETURNS[version]
    # Both are means over drawn tasks.
    assert abs(difference) < HALF_WIDTH + curve["trial_half_width"]


@pytest.mark.parametrize("version", RETURNS)
def test_a_training_starts_from_it(tmp_path: Path, version: int) -> None:
    weights = Checkpoint.read(file_of(version)).state_dict
    given = (
        *("experiment=mab_n10_k5", "debug=fast", "trial.episodes_per_trial=10"),
        *("logger=none", f"start_from={file_of(version)}", "learner.learning_rate=1e-12"),
    )
    call_program(tmp_path, *given, f"hydra.run.dir={tmp_path / 'run'}")
    trained = Checkpoint.read(tmp_path / "run" / "last.ckpt").state_dict
    names = [name for name in weights if name.startswith("agent.memory")]
    assert names
    for name in names:
        assert trained[name].allclose(weights[name], atol=1e-6), name


@pytest.mark.parametrize("version", RETURNS)
def test_it_cannot_be_resumed_without_its_optimiser(tmp_path: Path, version: int) -> None:
    line = mistake_told(tmp_path, f"ckpt_path={file_of(version)}")
    assert line.startswith(f"error: ckpt_path={file_of(version)} ")
    assert "start_from" in line
