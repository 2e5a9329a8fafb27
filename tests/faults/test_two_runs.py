"""Simultaneous runs, and runs in a folder of another run."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import cloudpickle
import pytest
from filelock import FileLock

import train
from rl2_lightning.config import run_name
from rl2_lightning.errors import UserError
from rl2_lightning.run_folder import LOCK, new_folder
from tests.builders import ROOT
from tests.command_line.program import SMALL, call_program, mistake_told
from tests.forked import forked


def agent_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())["agent"]


def at_once(folder: Path, *commands: tuple[str, ...]) -> None:
    """Start several programs at the same time, and wait for all of them."""
    with ExitStack() as stack:
        programs = [
            stack.enter_context(forked([str(ROOT / "train.py"), *SMALL, *one], folder))
            for one in commands
        ]
        for program in programs:
            assert program.wait() == 0, program.read()


def test_two_runs_have_folders_of_their_own(tmp_path: Path) -> None:
    at_once(tmp_path, ("seed=1",), ("seed=2",))
    runs = sorted((tmp_path / "outputs" / "bernoulli_bandit").iterdir())
    assert len(runs) == 2
    for run in runs:
        seed = json.loads((run / "summary.json").read_text())["seed"]
        alone = tmp_path / f"alone{seed}"
        call_program(tmp_path, *SMALL, f"seed={seed}", f"hydra.run.dir={alone}")
        assert agent_of(run) == agent_of(alone)


@pytest.mark.slow
def test_two_sweeps_have_folders_of_their_own(tmp_path: Path) -> None:
    at_once(tmp_path, ("-m", "seed=1,2"), ("-m", "seed=3,4"))
    sweeps = sorted((tmp_path / "outputs" / "multirun").iterdir())
    assert len(sweeps) == 2
    seeds = set()
    for run in (tmp_path / "outputs" / "multirun").glob("*/bernoulli_bandit_*"):
        seed = json.loads((run / "summary.json").read_text())["seed"]
        alone = tmp_path / f"alone{seed}"
        call_program(tmp_path, *SMALL, f"seed={seed}", f"hydra.run.dir={alone}")
        assert agent_of(run) == agent_of(alone)
        seeds.add(seed)
    assert seeds == {1, 2, 3, 4}


def test_a_launcher_can_send_the_job_to_another_process() -> None:
    # As the launchers joblib and submitit do.
    sent = cloudpickle.dumps(train.job.__wrapped__)
    loads = (
        f"import cloudpickle; print(cloudpickle.loads({sent!r}).__name__); "
        "from omegaconf import OmegaConf; "
        "print(*map(OmegaConf.has_resolver, ('run_name', 'new_folder', 'folder_of_run')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", loads], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "job\nTrue True True\n"


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    made = [new_folder(str(tmp_path / "run")) for _ in range(3)]
    assert made == [str(tmp_path / name) for name in ("run", "run_2", "run_3")]


@pytest.mark.parametrize("kind", ["a link to nothing", "a file"])
@pytest.mark.parametrize("path", ["outputs/run", "outputs/mine/run"])
def test_what_is_in_the_way_of_folders(tmp_path: Path, kind: str, path: str) -> None:
    outputs = tmp_path / "outputs"
    if kind == "a file":
        outputs.touch()
    else:
        outputs.symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(UserError, match=f"^{outputs} is {kind}, where runs have their folders: "):
        new_folder(str(tmp_path / path))


def test_outputs_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "outputs").touch()
    line = mistake_told(tmp_path, *SMALL)
    assert line.startswith("error: outputs is a file, where runs have their folders: ")


@pytest.mark.parametrize("given", [(), ("seed=2",), ("mode=test", "ckpt_path={}")])
def test_a_finished_run_is_not_overwritten(
    tmp_path: Path, finished_run: Path, given: tuple[str, ...]
) -> None:
    before = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    typed = [text.format(finished_run / "last.ckpt") for text in given]
    line = mistake_told(tmp_path, *SMALL, *typed, f"hydra.run.dir={finished_run}")
    assert "holds a finished run, which is not overwritten: give another folder" in line
    after = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    assert after == before


def test_a_stopped_run_is_resumed_or_left_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    place = f"hydra.run.dir={run}"
    call_program(tmp_path, *SMALL, place)
    (run / "summary.json").unlink()
    assert f"resume it with ckpt_path={run / 'last.ckpt'}" in mistake_told(tmp_path, *SMALL, place)
    call_program(tmp_path, f"ckpt_path={run}", "trainer.max_epochs=2", place)
    assert json.loads((run / "summary.json").read_text())["iterations"] == 2


@pytest.mark.parametrize("given", ["learner.learning_rate=abc", "memory.num_layers=2e9"])
def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path, given: str) -> None:
    mistake_told(tmp_path, *SMALL, given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", ["session.quieten", "build.build_trainer"])
@pytest.mark.parametrize("named", [True, False])
def test_a_run_that_is_stopped_as_it_starts_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, named: bool, by: signal.Signals
) -> None:
    monkeypatch.setattr(f"rl2_lightning.{at}", lambda *_: signal.raise_signal(by))
    before = signal.getsignal(signal.SIGTERM)
    given = (f"hydra.run.dir={tmp_path / 'run'}",) if named else ()
    with pytest.raises(SystemExit, match=r"^stopped before the run began$"):
        call_program(tmp_path, *SMALL, *given)
    assert list(tmp_path.rglob("*")) == ([tmp_path / "run"] if named else [])
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_folder_that_was_there_is_left_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    mistake_told(tmp_path, *SMALL, "learner.learning_rate=abc", f"hydra.run.dir={run}")
    assert run.is_dir()


def test_a_run_is_named_by_experiment_family_or_the_run_before() -> None:
    time = "2026-01-01_12-00-00"
    assert run_name("mab_n10_k5", "bernoulli_bandit", None) == "mab_n10_k5"
    assert run_name("default", "grid_navi", None) == "grid_navi"
    assert run_name("default", "grid_navi", f"outputs/mine/{time}/last.ckpt") == "mine"
    assert run_name("default", "grid_navi", "outputs/a_run/last.ckpt") == "grid_navi"


def test_a_folder_in_use(tmp_path: Path) -> None:
    with FileLock(tmp_path / LOCK):
        line = mistake_told(tmp_path, *SMALL, f"hydra.run.dir={tmp_path}")
    assert line.endswith("is in use by another run: give another folder, as hydra.run.dir")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    line = mistake_told(tmp_path, *SMALL, f"hydra.run.dir={tmp_path / 'run'}")
    assert "cannot be" in line
