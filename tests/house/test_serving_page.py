"""The programs of the page about the examples run, and what it says of them is so."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from examples.control.__main__ import ARGUMENTS as CONTROL
from examples.personalisation import batching, service
from examples.personalisation.kill_test import ARGUMENTS as KILL_TEST
from examples.personalisation.load_test import ARGUMENTS as LOAD_TEST
from examples.personalisation.settings import ARGUMENTS as SERVICE
from rl2_lightning.arguments import read_arguments
from tests.examples.agents import ROOT, make_users, serving

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
COMMANDS = {
    "examples.personalisation": SERVICE,
    "examples.personalisation.load_test": LOAD_TEST,
    "examples.personalisation.kill_test": KILL_TEST,
    "examples.control": CONTROL,
}


def test_the_program_talks_to_the_service(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert "http://127.0.0.1:8000" in program
    with serving(make_users(tmp_path)) as url:
        told = subprocess.run(
            [sys.executable, "-c", program.replace("http://127.0.0.1:8000", url)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    assert "'decisions': 10, 'awaited': None" in told


def test_commands_have_their_arguments() -> None:
    lines = re.findall(r"^python -m (examples\..*)$", PAGE, re.MULTILINE)
    assert {line.split()[0] for line in lines} == set(COMMANDS)
    for line in lines:
        module, *arguments = shlex.split(line)
        assert find_spec(module)
        given = read_arguments(arguments, COMMANDS[module])
        if given["ckpt_path"].startswith("results/"):
            assert (ROOT / given["ckpt_path"]).is_file()


def test_defaults_are_as_the_page_says() -> None:
    table = PAGE.partition("| argument |")[2].partition("\n\n")[0]
    said = {}
    for names, defaults in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE):
        values = [one.strip("` ") for one in defaults.split(",")]
        said |= dict(zip(re.findall(r"`(\w+)`", names), values, strict=True))
    assert said.pop("ckpt_path") == "required"
    assert said == {name: str(SERVICE[name]) for name in SERVICE if name != "ckpt_path"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"up to (\d+), and answers them", batching.MOST_AT_ONCE),
        (r"More than (\d+) waiting requests", batching.MOST_WAITING),
        (r"for up to (\d+) seconds", service.SECONDS_TO_END),
        (r"`, up to (\d+) \|", service.MOST_IN_A_CALL),
        (r"starts a service (\d+) times", KILL_TEST["kills"]),
        (r"within ([\d.]+) seconds under load", KILL_TEST["seconds"]),
        (r"at random times, (\d+) per second", LOAD_TEST["rate"]),
    ],
)
def test_numbers_are_as_the_page_says(text: str, number: float) -> None:
    (said,) = re.findall(text, PAGE)
    assert float(said) == number
