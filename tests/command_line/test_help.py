"""`--help` and the completion of the shell."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from rl2_lightning.config import register_schemas
from tests.builders import ROOT
from tests.command_line.program import call_program, run_program

# What a shell asks for at each tab, and a choice or field that it is to be offered.
TABS = {
    "python train.py env=grid": "env=grid_navi",
    "python train.py mem": "memory=",
    "python train.py memory=lstm memory.hid": "memory.hidden_size=",
    "python train.py sweep=s": "sweep=seeds",
}


@pytest.fixture(scope="module")
def printed() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100")
        done = run_program(ROOT, "--help")
    assert done.returncode == 0
    return done.stdout


def test_the_examples_compose(printed: str) -> None:
    examples = re.findall(r"^  python train\.py(.*?)(?: {2,}.*)?$", printed, re.MULTILINE)
    examples = [shlex.split(one) for one in examples if "[" not in one and "--" not in one]
    assert len(examples) == 5
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for words in examples:
            compose("train", ["output_dir=.", *words], return_hydra_config=True)


def test_fields_that_it_names_are_fields(printed: str) -> None:
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", ["output_dir=."])
    told = printed.partition("set most often")[2].partition("Groups")[0]
    names = re.findall(r"\b(?:[a-z_]+\.)+[a-z_]+\b", told)
    assert len(names) > 8
    for name in names:
        node = cfg
        for part in name.split("."):
            assert part in node, name
            node = node[part]


def test_all_groups_are_there(printed: str) -> None:
    groups = {place.name for place in (ROOT / "configs").iterdir() if place.is_dir()}
    for group in groups - {"hydra", "__pycache__"}:
        assert re.search(rf"^{group}: .*\bdefault\b|^{group}: \w+", printed, re.MULTILINE), group


def test_the_pages_that_it_names_are_there(printed: str) -> None:
    pages = re.findall(r"docs/\w+\.md", printed)
    assert len(pages) == 3
    assert all((ROOT / page).is_file() for page in pages)


def test_it_fits_a_screen(printed: str) -> None:
    lines = printed.splitlines()
    assert len(lines) < 55
    own = [line for line in lines if not re.match(r"\w+: ", line)]
    assert max(map(len, own)) <= 100


@pytest.mark.parametrize("line", TABS)
def test_the_shell_is_offered_choices_and_fields(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    call_program(tmp_path, "-sc", "query=bash")
    assert TABS[line] in capfd.readouterr().out.split()


def test_bash_completes_what_is_typed() -> None:
    program = """
        eval "$(python train.py -sc install=bash)"
        COMP_LINE='python train.py memory=min' COMP_CWORD=2
        hydra_bash_completion
        echo "${COMPREPLY[@]}"
    """
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = subprocess.check_output(["bash", "-c", program], cwd=ROOT, env=env, text=True)
    assert printed.split() == ["memory=min_gru"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_completion(
    tmp_path: Path, shell: str, capfd: pytest.CaptureFixture[str]
) -> None:
    call_program(tmp_path, "-sc", f"install={shell}")
    assert "hydra" in capfd.readouterr().out
