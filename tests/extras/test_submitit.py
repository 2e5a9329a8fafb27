"""A sweep whose jobs are started by submitit, as on a SLURM cluster."""

import json
from pathlib import Path

import pytest

from tests.command_line.program import SMALL, run_program

pytest.importorskip("submitit", reason="pip install rl2-lightning[slurm]")


@pytest.mark.slow
def test_a_sweep_runs_as_jobs_of_a_cluster(tmp_path: Path) -> None:
    given = ("hydra/launcher=submitit_local", "hydra.sweep.dir=sweep", "seed=1,2")
    done = run_program(tmp_path, "-m", *given, *SMALL)
    assert done.returncode == 0, done.stderr
    found = sorted((tmp_path / "sweep").rglob("summary.json"))
    assert len(found) == 2
    assert all(json.loads(one.read_text())["env_steps"] == 16 for one in found)
    for one in found:
        assert one.parent.name in done.stdout, "the table of the sweep lists it"
