"""The code blocks of the documentation's pages."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


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


def commands_of(page: str) -> list[list[str]]:
    """The commands of a page's bash blocks, without comments."""
    text = "".join(block.text for block in blocks_of(page) if block.language == "bash")
    lines = text.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]
