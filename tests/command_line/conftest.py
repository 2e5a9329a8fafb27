from pathlib import Path

import pytest

from tests.command_line.program import SMALL, call_program


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained, validated and tested."""
    folder = tmp_path_factory.mktemp("finished")
    call_program(folder, *SMALL, f"hydra.run.dir={folder}")
    return folder
