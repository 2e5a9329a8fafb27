"""Read the overrides of a command line as Hydra does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

SEARCH_PATH = "hydra.searchpath"


def parsed(texts: Sequence[str]) -> Iterator[Override]:
    """The overrides among the arguments of a command; flags, and what Hydra rejects, are left out.

    Args:
        texts: arguments such as `++env.size=3`, `~memory` or `"ckpt_path='a b'"`.
    """
    parser = OverridesParser.create()
    for text in texts:
        try:
            yield parser.parse_override(text)
        except HydraException:
            continue


def value_of(name: str, texts: Sequence[str]) -> Any:
    """The value that a command gives a field, without quotes and escapes.

    Args:
        name: full name of the field.
        texts: arguments of the command.

    Returns:
        The last value; None if there is none, or several for a sweep.
    """
    values = [
        None if one.is_sweep_override() else one.value()
        for one in parsed(texts)
        if one.key_or_group == name
    ]
    return values[-1] if values else None


def quoted(name: str, path: str) -> str:
    """How to write a path with special characters on the command line of a shell."""
    full = os.path.expanduser(path)  # noqa: PTH111 - Path's raises an error without a home
    escaped = full.replace("'", "\\'")
    return f"\"{name}='{escaped}'\""
