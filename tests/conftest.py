"""Use one thread in all test processes, so that results can be compared bitwise."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained, validated and tested."""
    from tests.command_line.program import SMALL, call_program

    folder = tmp_path_factory.mktemp("finished")
    call_program(folder, *SMALL, f"hydra.run.dir={folder}")
    return folder
