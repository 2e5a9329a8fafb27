"""A disk that is full or read-only ends a run in one line, and keeps its last checkpoint."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.test_kills import KILLED, LIMIT, iterations_in, run_of
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as one:
        yield one


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own; only root can mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("no disk can be mounted")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))


def last_line(zygote: Zygote, folder: Path, *arguments: str, largest: int | None = None) -> str:
    """The last line of a program that fails."""
    program = zygote.start(folder, *arguments, largest_file=largest)
    code = program.wait(LIMIT)
    output = program.output.read_text()
    assert code == 1, output
    assert not program.end()
    assert "Traceback" not in output
    return output.splitlines()[-1]


def test_a_full_disk(tmp_path: Path, disk: Path, zygote: Zygote) -> None:
    run = disk / "run"
    run_of(zygote, tmp_path, *KILLED, "trainer.max_epochs=2", f"hydra.run.dir={run}")
    (run / "summary.json").unlink()
    fill(disk / "filler")
    before = (run / "last.ckpt").read_bytes()
    given = (*KILLED, f"ckpt_path={run}", f"hydra.run.dir={run}")
    assert last_line(zygote, tmp_path, *given).startswith("error: ")
    assert (run / "last.ckpt").read_bytes() == before
    (disk / "filler").unlink()
    run_of(zygote, tmp_path, *given)
    assert iterations_in(run) == 6


def test_a_disk_that_has_become_read_only(tmp_path: Path, disk: Path, zygote: Zygote) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = last_line(zygote, tmp_path, *KILLED, f"hydra.run.dir={disk / 'run'}")
    assert line.startswith("error: ")
    assert "Read-only file system" in line


@pytest.mark.parametrize("largest", [1000, 8000])
def test_files_that_may_not_grow(tmp_path: Path, zygote: Zygote, largest: int) -> None:
    run = tmp_path / "run"
    line = last_line(zygote, tmp_path, *KILLED, f"hydra.run.dir={run}", largest=largest)
    assert line.startswith("error: ")
    assert iterations_in(run) == 0
