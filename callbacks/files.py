"""Write files atomically, and tables that a resumed run continues."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
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


def append_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Append rows to a CSV file, which is created with the names of its columns.

    Args:
        path: the file, in a folder that exists.
        columns: names of the columns.
        rows: the rows.
    """
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(columns)
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a CSV file; a killed run may have left an incomplete one."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def keep_rows(path: Path, columns: Sequence[str], keep: Callable[[dict[str, str]], bool]) -> None:
    """Drop rows of a CSV file, if it exists.

    Args:
        path: the file.
        columns: names of the columns.
        keep: whether to keep a row, given by column.
    """
    if not path.exists():
        return
    kept = [row for row in read_rows(path) if keep(row)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(kept)
    write_atomically(path, text.getvalue())
