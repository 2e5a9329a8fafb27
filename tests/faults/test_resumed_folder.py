"""A run that is resumed in its own folder."""

import csv
from functools import partial
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl2_lightning.callbacks.csv_metrics import CSVMetrics
from rl2_lightning.run_folder import unfinished
from tests.command_line.program import PLAIN, SMALL, call_program


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_metrics_of_a_resumed_run_are_continued(tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = (*SMALL, "logger=csv", f"hydra.run.dir={run}")
    call_program(tmp_path, *given, "trainer.max_epochs=2")
    before = [row for row in rows_of(run) if not row["test/return_greedy"]]
    (run / "summary.json").unlink()
    with (run / "csv" / "metrics.csv").open("a") as table:  # as a killed run leaves it
        later = [str(int(before[-1]["step"]) * 2) if name == "step" else "" for name in before[0]]
        table.write(",".join(later) + "\r\n1.0,2")
    call_program(tmp_path, f"ckpt_path={run}", "logger=csv", "trainer.max_epochs=3", given[-1])
    rows = rows_of(run)
    assert rows[: len(before)] == before
    assert [row["step"] for row in rows if row["train/return"]] == ["16", "32", "48"]
    assert [row["step"] for row in rows if row["test/return_greedy"]] == ["48"]
    assert not list(run.glob("csv/.*"))


@pytest.mark.parametrize("at", ["a new column", "a resume"])
def test_no_row_of_the_metrics_is_lost_by_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    replace = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.name == "metrics.csv":
            raise InterruptedError  # as SIGKILL would, just before the new file takes its name
        return replace(path, target)

    logger = CSVMetrics(str(tmp_path), name="", version="")
    logger.log_metrics({"train/return": 1.0}, step=16)
    logger.save()
    before = (tmp_path / "metrics.csv").read_bytes()
    monkeypatch.setattr(Path, "replace", killed)
    if at == "a new column":
        logger.log_metrics({"validation/return_greedy": 2.0}, step=16)
        step = logger.save
    else:
        step = partial(CSVMetrics(str(tmp_path), name="", version="").continue_from, 16)
    with pytest.raises(InterruptedError):
        step()
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_the_axis_of_tensorboard_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    every = ("callbacks.checkpoint.every_n_epochs=1", f"hydra.run.dir={run}")
    call_program(tmp_path, *SMALL, *every, "trainer.max_epochs=2")
    (run / "summary.json").unlink()
    call_program(tmp_path, f"ckpt_path={run}", "trainer.max_epochs=4", *every)
    assert len(list((run / "tensorboard").glob("events.*"))) >= 2, "no file is replaced"
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Scalars("train/return")] == [16, 32, 48, 64]


def test_another_run_does_not_continue_the_metrics(tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = (*SMALL, "logger=csv", f"hydra.run.dir={run}", "callbacks.closing_table=null")
    call_program(tmp_path, *given)
    for name in ("summary.json", "last.ckpt"):
        (run / name).unlink()
    before = len(rows_of(run))
    call_program(tmp_path, *given)
    assert len(rows_of(run)) == before


def test_a_run_whose_budget_is_spent_says_that_it_is_only_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    call_program(tmp_path, *SMALL, "collection.total_env_steps=16", f"hydra.run.dir={run}")
    assert "only tested" not in capsys.readouterr().out
    call_program(tmp_path, f"ckpt_path={run}")
    assert capsys.readouterr().out.splitlines()[0] == (
        f"ckpt_path={run / 'last.ckpt'} has been trained for 1 iteration, the whole budget: it is "
        "only tested; to train on, raise collection.total_env_steps"
    )


def test_what_a_killed_run_was_writing_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = f"hydra.run.dir={run}"
    call_program(tmp_path, *PLAIN, "collection.total_env_steps=16", folder)
    (run / "summary.json").unlink()
    for name in ("last.ckpt", "epoch=1.ckpt"):
        unfinished(run / name).write_bytes(b"PK")
    (run / "mine.unfinished").write_text("not a checkpoint")
    # Its budget is spent: no checkpoint is written that could take their place.
    call_program(tmp_path, f"ckpt_path={run}", "logger=none", folder)
    assert [path.name for path in run.glob("*unfinished")] == ["mine.unfinished"]
