"""Set up all test processes alike, wherever they are started."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # so that results can be compared bitwise

import signal
from pathlib import Path

import pytest

# In the background of a shell SIGINT is ignored, also by the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained, validated and tested."""
    from tests.command_line.program import SMALL, call_program

    folder = tmp_path_factory.mktemp("finished")
    call_program(folder, *SMALL, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(autouse=True)
def _sigterm_is_free() -> None:
    """A trainer that was not torn down leaves its handler, and a program keeps what it finds."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
