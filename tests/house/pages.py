"""The code blocks of the documentation's pages, and their commands as bash reads them."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CHANGES = "CHANGELOG.md"  # also names commands that no longer exist
FILES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "results" / "README.md"])
PAGES = [file.relative_to(ROOT).as_posix() for file in FILES]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
PROGRAMS = (
    *("jupyter", "make", "pip", "pytest", "python", "python3", "ray", "rl2-lightning", "srun"),
    *("tensorboard", "torchrun"),
)
OTHER_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# A whole command within a sentence: no part of it is left to the reader.
INLINE = re.compile(rf"(?<!`)`((?:{'|'.join(PROGRAMS)}) [^`\n]+)`(?!`)")
LEFT_TO_THE_READER = re.compile(r"…|<|field=value|=x\b")
OF_BASH = ("OLDPWD", "PATH", "PWD", "SHLVL", "_")  # variables that no command has set
EXPORTED = re.compile(r'^declare -x (\w+)="?(.*?)"?$', re.MULTILINE)
ESCAPED = re.compile(r"\\(.)")
END = "\x1e"  # of a command, in the file that bash writes
# Programs become functions that write down what is exported and, after bash has expanded them,
# their arguments. Nothing else is executed: there is no other program on the path, and a restricted
# shell accepts neither paths of programs nor redirections into files.
RECORD = f"""
exec 3>>commands
record() {{
  export -p
  printf '\\0'; printf '%s\\0' "$@" $'{END}'
}} >&3
fail() {{ printf 'a line fails in\\n%s\\n' "$1" >&2; exit 1; }}
.() {{ [[ $1 == .venv/bin/activate ]]; }}
PATH={os.devnull}
set -r
""" + "".join(f'{name}() {{ record {name} "$@"; }}\n' for name in PROGRAMS)


class Block(NamedTuple):
    """A block of a page.

    Attributes:
        language: what it is written in.
        file: the file that it is the content of; empty if it is none.
        text: its content.
    """

    language: str
    file: str
    text: str


class Command(NamedTuple):
    """A command of a page.

    Attributes:
        words: the program and its arguments.
        variables: the exported ones that the page sets for it, sorted by name.
    """

    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The command in one line."""
        return " ".join([*(f"{name}={value}" for name, value in self.variables), *self.words])

    @property
    def overrides(self) -> list[str] | None:
        """The fields that it sets for a training or a test; None if it is of another kind."""
        words = list(self.words)
        if words[:2] == ["make", "train"]:
            return " ".join(words[2:]).removeprefix("ARGS=").split()
        if words[0] == "rl2-lightning":
            return words[1:]
        if words[:3] == ["python", "-m", "rl2_lightning"]:
            return words[3:]
        if "train.py" in words:
            return words[words.index("train.py") + 1 :]
        return None


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, given by its path in the repository, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(*found) for found in BLOCK.findall(text)]


def write_files(page: str, folder: Path) -> list[Path]:
    """Write the files that a page shows to a folder."""
    written = []
    for block in blocks_of(page):
        if block.file:
            place = folder / block.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.text, encoding="utf-8")
            written.append(place)
    return written


@cache
def commands_of(page: str) -> tuple[Command, ...]:
    """The commands of a page's bash blocks and sentences, in their order, each once."""
    return tuple(dict.fromkeys(read_commands(_scripts_of(page), page)))


def read_commands(scripts: Iterable[str], source: str) -> list[Command]:
    """The commands of scripts, in which each line must succeed and each program be known.

    Args:
        scripts: what bash reads, each in a subshell of its own.
        source: where they are from, for messages.
    """
    # `set -e` has no effect in a subshell whose exit code decides what is done next.
    whole = (f"(\nset -e\n{script}\n)\n(($? == 0)) || fail {quote(script)}" for script in scripts)
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            ["bash", "-c", "\n".join([RECORD, *whole]), source],
            check=False,
            cwd=folder,
            env={"PATH": os.environ["PATH"]},  # where bash is
            capture_output=True,
            text=True,
        )
        printed = done.stdout + done.stderr
        assert (done.returncode, printed) == (0, ""), f"{source}: {printed}"
        content = (Path(folder) / "commands").read_text(encoding="utf-8")
    return [_command(record.split("\0")[:-1]) for record in content.split(f"{END}\0")[:-1]]


def _command(fields: list[str]) -> Command:
    """The command of the variables and the words that bash has written down."""
    exported, *words = fields
    variables = ((name, ESCAPED.sub(r"\1", value)) for name, value in EXPORTED.findall(exported))
    return Command(tuple(words), tuple(sorted(one for one in variables if one[0] not in OF_BASH)))


def _scripts_of(page: str) -> Iterator[str]:
    """The bash blocks of a page, and the commands in its sentences."""
    text = (ROOT / page).read_text(encoding="utf-8")
    end = 0
    for block in [*BLOCK.finditer(text), None]:
        sentences = text[end : block.start() if block else None]
        for command in INLINE.findall(OTHER_BLOCK.sub("", sentences)):
            if not LEFT_TO_THE_READER.search(command):
                yield command
        if block is not None:
            end = block.end()
            if block[1] == "bash":
                yield block[3]
