"""The programs of the page about agents in use run."""

import re
from pathlib import Path

import pytest

from rl2_lightning import Agent
from tests.house.command import run_python

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "using_agents.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
RUNS = {
    "a_run": ["debug=fast"],
    "a_cart_pole": ["debug=fast", "experiment=gymnasium_cart_pole", "env.horizon=5"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that the page speaks of."""
    folder = tmp_path_factory.mktemp("user")
    for name, fields in RUNS.items():
        run_python([ROOT / "train.py", *fields, f"hydra.run.dir=outputs/{name}"], folder)
    export = ["-m", "rl2_lightning.export", "ckpt_path=outputs/a_run"]
    run_python(export, folder, PYTHONPATH=str(ROOT))
    return folder


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_run(folder: Path, number: int) -> None:
    run_python(["-c", PROGRAMS[number]], folder, PYTHONPATH=str(ROOT))


def test_sizes_are_as_the_page_says(folder: Path) -> None:
    size = len(Agent.load(folder / "outputs" / "a_run" / "last.ckpt").session(1).save(0))
    assert round(size / 1000, 1) == float(re.search(r"([\d.]+) kB for a GRU", PAGE)[1])


def test_there_are_programs_for_all_sections() -> None:
    assert len(PROGRAMS) == 5
