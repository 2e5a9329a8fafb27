"""Write files atomically."""

import os
from pathlib import Path

from rl2_lightning.run_folder import make_parent


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically in UTF-8, and create its folder.

    Args:
        path: the file, which is replaced if it exists.
        text: its content.
    """
    make_parent(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
