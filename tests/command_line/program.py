"""Run `python train.py ...` in a process of its own or in this one."""

import subprocess
import sys
from pathlib import Path

import pytest

import train
from tests.builders import ROOT
from tests.forked import run_forked, variables_of_a_shell

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


# No picture and no log, which take almost half of a small run's time, for tests of something else.
UNSEEN = ("callbacks.adaptation_curve=null", "logger=none")
PLAIN = (*SMALL, *UNSEEN)


def run_program(
    folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, from a folder outside of the repository."""
    env = {**variables_of_a_shell(), **variables}
    return run_forked([str(ROOT / "train.py"), *arguments], folder, env)


def start_program(
    folder: Path, *arguments: str, python_options: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the program in a new process, which does the imports itself."""
    return subprocess.run(
        [sys.executable, *python_options, str(ROOT / "train.py"), *arguments],
        check=False,
        cwd=folder,
        env={**variables_of_a_shell(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run another command of the package, `python -m rl2_lightning.<name>`."""
    return run_forked(["-m", f"rl2_lightning.{name}", *arguments], ROOT)


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
