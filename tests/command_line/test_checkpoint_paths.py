"""Ways to write the path of a checkpoint on the command line."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.command_line.program import PLAIN, call_program, mistake_told


@pytest.fixture(scope="module")
def lstm_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose memory is not the default."""
    run = tmp_path_factory.mktemp("lstm")
    call_program(run, *PLAIN, "memory=lstm", f"hydra.run.dir={run}")
    return run


def choose(folder: Path, *arguments: str) -> str:
    """Test a checkpoint, and return the memory's class."""
    run = folder / "run"
    few = "evaluation.test_tasks=4"
    call_program(folder, "mode=test", few, *arguments, f"hydra.run.dir={run}")
    return OmegaConf.load(run / "config.yaml").memory["_target_"].rpartition(".")[2]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("sp ace,x=1", "ckpt_path='sp ace,x=1'"),
        ("sp ace,x=1", r"ckpt_path=sp\ ace\,x\=1"),
        ("plain", "++ckpt_path=plain"),
    ],
)
def test_quotes_escapes_and_plus_signs(
    tmp_path: Path, lstm_run: Path, name: str, written: str
) -> None:
    (tmp_path / name).symlink_to(lstm_run)
    assert choose(tmp_path, written) == "LSTM"


@pytest.mark.parametrize("field", ["ckpt_path", "start_from"])
def test_what_hydra_cannot_read_is_told_in_quotes(tmp_path: Path, field: str) -> None:
    typed = f"{field}=ep/epoch=9-step=320.ckpt"
    line = mistake_told(tmp_path, typed)
    told = f"\"{field}='ep/epoch=9-step=320.ckpt'\""
    assert line == f"error: cannot read '{typed}': write {told}"


def test_the_home_folder(tmp_path: Path, lstm_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(lstm_run))
    line = mistake_told(tmp_path, "ckpt_path=~/last.ckpt")
    written = f"ckpt_path='{lstm_run}/last.ckpt'"
    assert line == f"error: cannot read 'ckpt_path=~/last.ckpt': write \"{written}\""
    assert choose(tmp_path, written) == "LSTM"


def test_the_home_folder_in_quotes(
    tmp_path: Path, lstm_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(lstm_run))
    assert choose(tmp_path, "ckpt_path='~/last.ckpt'") == "LSTM"


@pytest.mark.parametrize("field", ["ckpt_path", "start_from"])
def test_a_job_in_a_folder_of_its_own(tmp_path: Path, lstm_run: Path, field: str) -> None:
    (tmp_path / "before").symlink_to(lstm_run)
    run = f"hydra.run.dir={tmp_path / 'run'}"
    mode = "mode=test" if field == "ckpt_path" else "mode=train"
    call_program(
        tmp_path, *PLAIN, "memory=lstm", mode, f"{field}=before", "hydra.job.chdir=true", run
    )
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("field", ["ckpt_path", "start_from"])
def test_a_path_that_is_empty(tmp_path: Path, lstm_run: Path, field: str) -> None:
    line = mistake_told(lstm_run, f"{field}=")
    assert line.startswith(f"error: {field} is empty: give the path of a checkpoint or run")


def test_weights_of_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    line = mistake_told(tmp_path, f"start_from={tmp_path}")
    assert line.startswith(f"error: start_from={tmp_path} is a folder without last.ckpt")
    line = mistake_told(tmp_path, "start_from=nowhere")
    assert line.startswith("error: start_from=nowhere is not a file: give the path of a checkpoint")
