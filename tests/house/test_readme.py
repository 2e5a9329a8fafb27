"""The README begins with two commands, and its program uses a trained agent."""

from pathlib import Path

from tests.house.command import run_python
from tests.house.pages import ROOT, blocks_of, commands_of


def test_readme_begins_with_the_two_commands() -> None:
    assert [command.text for command in commands_of("README.md")[:2]] == ["make train", "make test"]


def test_python_uses_a_trained_agent(tmp_path: Path) -> None:
    (program,) = (one.text for one in blocks_of("README.md") if one.language == "python")
    assert len(program.splitlines()) <= 10
    run_python([ROOT / "train.py", "debug=fast", "hydra.run.dir=outputs/a_run"], tmp_path)
    run_python(["-c", program], tmp_path, PYTHONPATH=str(ROOT))
