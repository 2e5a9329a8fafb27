"""The pages about tasks, memories and learners of one's own show files that work."""

import json
import sys
from pathlib import Path

import pytest

from tests.house.command import run
from tests.house.pages import ROOT, Command, blocks_of, commands_of, write_files

PARTS = ROOT / "tests" / "house" / "own_parts"  # trained, tested and resumed by other tests
GROUPS = {"tasks": "env", "memory": "memory", "learner": "learner"}


@pytest.mark.parametrize("page", GROUPS)
def test_the_command_names_the_files_of_the_page(tmp_path: Path, page: str) -> None:
    place = f"docs/own_{page}.md"
    program, config = write_files(place, tmp_path)
    (command,) = commands_of(place)
    folder, name = GROUPS[page], program.stem
    choice = ["--config-dir", "mine/configs", f"{folder}={name}"]
    assert command == Command(("python", "train.py", *choice), (("PYTHONPATH", "mine"),))
    assert config == tmp_path / "mine" / "configs" / folder / f"{name}.yaml"
    assert f"_target_: {name}." in config.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["memory", "learner"])
def test_the_example_is_the_one_that_other_tests_train(page: str) -> None:
    program, config = (block for block in blocks_of(f"docs/own_{page}.md") if block.file)
    assert program.text == (PARTS / Path(program.file).name).read_text(encoding="utf-8")
    place = PARTS / Path(config.file).relative_to("mine")
    assert config.text == place.read_text(encoding="utf-8")


def test_the_doors_are_trained(tmp_path: Path) -> None:
    write_files("docs/own_tasks.md", tmp_path)
    (words,) = (command.overrides for command in commands_of("docs/own_tasks.md"))
    output = tmp_path / "run"
    few = ("debug=fast", "trial.episodes_per_trial=8", "evaluation.test_tasks=4000")
    command = [sys.executable, ROOT / "train.py", *words, *few, f"hydra.run.dir={output}"]
    run(command, tmp_path, PYTHONPATH=str(tmp_path / "mine"), OMP_NUM_THREADS="1")
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    # One door after the other: 0, 1, 2 or 3 of the 8 episodes are lost.
    found = summary["references"]["one_by_one"]
    assert found["trial_return"] == pytest.approx(6.5, abs=0.1)
