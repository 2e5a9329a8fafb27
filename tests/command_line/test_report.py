"""What a run prints of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.command_line.program import SMALL, call_program

DESCRIBED = "seed 1, cpu, 32-true; PPO with GRU: "


def test_a_training_is_described_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    call_program(tmp_path, *SMALL, f"hydra.run.dir={run}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(DESCRIBED)
    assert lines[0].endswith(" in total")
    assert lines[1].endswith("; a trial has 2 env steps")
    assert lines[2] == f"folder {run}"
    assert sum(line.startswith(DESCRIBED) for line in lines) == 1
    assert lines.count(f"written to {run}") == 1


def test_a_test_says_what_is_tested(
    tmp_path: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    given = ("mode=test", f"ckpt_path={finished_run}", f"hydra.run.dir={tmp_path / 'tested'}")
    call_program(tmp_path, *SMALL, *given)
    printed = capsys.readouterr().out
    assert printed.count(DESCRIBED) == 1
    assert printed.index(DESCRIBED) < printed.index("written to")
    assert "budget" not in printed


def test_output_that_nobody_reads() -> None:
    command = [sys.executable, str(ROOT / "train.py"), "--help"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
