"""Files that are written as a whole, or not at all."""

import errno
import os
from pathlib import Path

import pytest

from rl2_lightning.callbacks.files import write_atomically


def test_a_file_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "some.csv"
    for text in ("a\r\n", "β\r\n"):
        write_atomically(path, text)
        assert path.read_bytes().decode() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failure_keeps_the_earlier_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "some.csv"
    write_atomically(path, "before")
    monkeypatch.setattr(*((os, "fsync") if fails == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
