"""The commands of the README and of the quick start work, each in a quick form."""

import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.house.command import run, run_python

ROOT = Path(__file__).parents[2]
# Commands that can only be composed without accelerators or an earlier run.
ONLY_COMPOSED = re.compile(r"gpu|cuda|devices=|num_nodes=|ckpt|checkpoint|--multirun| -m ")


def commands():
    """The commands of both pages' bash blocks, each once, without comments."""
    pages = ("README.md", "docs/quick_start.md")
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    split = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return list(dict.fromkeys(shlex.join(words) for words in split if words))


def beginning_with(*beginnings):
    starts = tuple(f"{beginning} " for beginning in beginnings)
    return [command for command in commands() if f"{command} ".startswith(starts)]


def overrides(command):
    """The fields that a training command sets; `make train` takes them from ARGS."""
    words = shlex.split(command)
    if words[0] == "make":
        return shlex.split(" ".join(words[2:]).removeprefix("ARGS="))
    return words[2:] if words[0] == "python" else words[1:]


def test_readme_begins_with_the_two_commands():
    assert {"make train", "make test"} <= set(commands()[:8])


@pytest.mark.parametrize("command", beginning_with("make"))
def test_make(command):
    run(["make", "-n", *shlex.split(command)[1:]], ROOT)


@pytest.mark.parametrize(
    "command", beginning_with("make train", "python train.py", "rl2-lightning")
)
def test_train(command, tmp_path):
    quick = ["--cfg", "job"] if ONLY_COMPOSED.search(command) else ["debug=fast"]
    fields = [word for word in overrides(command) if word not in {"-m", "--multirun"}]
    run_python([ROOT / "train.py", *fields, *quick], tmp_path)


def test_python_uses_a_trained_agent(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert programs
    folder = "hydra.run.dir=outputs/a_run"
    run_python([ROOT / "train.py", "debug=fast", folder], tmp_path)
    for program in programs:
        assert len(program.splitlines()) <= 10
        run_python(["-c", program], tmp_path, PYTHONPATH=str(ROOT))


@pytest.mark.parametrize("command", beginning_with("python -m"))
def test_module(command):
    assert find_spec(shlex.split(command)[2])


@pytest.mark.parametrize("command", beginning_with("pip install", "python -m pip install"))
def test_pip(command):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for names in re.findall(r"\[(.*?)\]", command) for name in names.split(",")}
    assert extras <= set(project["optional-dependencies"])
