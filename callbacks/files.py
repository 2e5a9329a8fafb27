"""Write files atomically."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically in UTF-8, and create its folder.

    Args:
        path: the file, which is replaced if it exists.
        text: its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)
