"""Run `python train.py ...` in a new process or in this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train
from tests.builders import ROOT

# The smallest run of everything, with a test.
SMALL = (
    "debug=fast",
    "collection.num_trials=8",
    "learner.num_epochs=1",
    "learner.num_minibatches=2",
    "memory.hidden_size=8",
    "learner.critic.sees_task=false",
    "trial.episodes_per_trial=2",
    "evaluation.validation_tasks=4",
    "evaluation.test_tasks=6",
    "trainer.accelerator=cpu",
)


def run_program(
    folder: Path, *arguments: str, python_options: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the program in a new process, from a folder outside of the repository."""
    hidden = ("HYDRA_FULL_ERROR", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, *python_options, str(ROOT / "train.py"), *arguments],
        check=False,
        cwd=folder,
        env={**env, "OMP_NUM_THREADS": "1", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run another command of the package, `python -m rl2_lightning.<name>`, in a new process."""
    return subprocess.run(
        [sys.executable, "-m", f"rl2_lightning.{name}", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def call_program(folder: Path, *arguments: str) -> None:
    """Run the program in this process, which has already done the slow imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py", *arguments])
        train.main()


def told(folder: Path, *arguments: str) -> str | None:
    """The error line of a run in this process; None if it succeeded."""
    line = None
    try:
        call_program(folder, *arguments)
    except SystemExit as end:
        line = end.code
    else:
        return None
    assert isinstance(line, str), "a text gives exit code 1"
    assert line.startswith("error: "), line
    assert "\n" not in line, line
    return line


def mistake_told(folder: Path, *arguments: str) -> str:
    """The error line of a run in this process, which Python prints at its exit."""
    line = told(folder, *arguments)
    assert line is not None, "it ran to its end"
    return line
