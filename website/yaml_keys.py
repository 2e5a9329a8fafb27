"""The keys of a YAML file with the comments that explain them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")
HEADER = "# @package"


@dataclass(frozen=True)
class Key:
    """A key of a YAML file.

    Attributes:
        name: dotted name within the file.
        value: its value as written there; empty if it holds other keys.
        comment: what a comment says of it; empty if there is none.
    """

    name: str
    value: str
    comment: str


def title_of(file: Path) -> str:
    """The comment at the top of a file, as one line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    said = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith(HEADER):
            said.append(line.lstrip("# "))
    return " ".join(said)


def keys_of(file: Path) -> list[Key]:
    """The keys of a file in their order, without its list of defaults."""
    text = file.read_text(encoding="utf-8")
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        return []
    lines = text.splitlines()
    return [key for key in _keys(root, lines, "") if key.name.partition(".")[0] != "defaults"]


def _keys(node: yaml.MappingNode, lines: Sequence[str], prefix: str) -> Iterator[Key]:
    for name, value in node.value:
        full_name = f"{prefix}{name.value}"
        holds_others = isinstance(value, yaml.MappingNode) and not value.flow_style
        line = name.start_mark.line
        # The value's end: a comment may have the sign of one within a string.
        start = name.end_mark.column if holds_others else value.end_mark.column
        yield Key(full_name, "" if holds_others else _text(value, lines), _said(lines, line, start))
        if holds_others:
            yield from _keys(value, lines, f"{full_name}.")


def _text(node: yaml.Node, lines: Sequence[str]) -> str:
    """A value as it is written, which is on one line."""
    start, end = node.start_mark, node.end_mark
    return lines[start.line][start.column : end.column] if start.line == end.line else "…"


def _said(lines: Sequence[str], line: int, start: int) -> str:
    """The comment behind a key and in the lines of comments below it, which go on with it."""
    found = COMMENT.search(lines[line], start)
    if found is None:
        return ""
    said = [found[1]]
    for below in lines[line + 1 :]:
        stripped = below.lstrip()
        # A comment of the next key stands where that key does.
        if not stripped.startswith("#") or len(below) - len(stripped) < start:
            break
        said.append(stripped.lstrip("# "))
    return " ".join(said)
