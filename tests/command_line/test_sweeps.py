"""Jobs of a sweep that fail do not end the others."""

import re
from pathlib import Path

import pytest

from tests.command_line.program import PLAIN, call_program


@pytest.mark.parametrize(
    ("field", "told", "culprit"),
    [
        (
            "learner.num_minibatches=2,3,4",
            "error: collection.num_trials=8 does not divide into",
            "learner.num_minibatches=3",
        ),
        (
            "learner.learning_rate=0,1e30,0.01",
            "error: the weights' norm is",
            "learner.learning_rate=1e+30",
        ),
    ],
    ids=["refused", "diverged"],
)
def test_a_failed_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, told: str, culprit: str
) -> None:
    sweep = tmp_path / "sweep"
    with pytest.raises(SystemExit) as end:
        call_program(tmp_path, "-m", *PLAIN, field, f"hydra.sweep.dir={sweep}")
    assert end.value.code == 1
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if "rror" in line]
    assert len(errors) == 1
    assert errors[0].startswith(told)
    finished = sorted(one.parent.name for one in sweep.glob("*/summary.json"))
    assert finished == ["bernoulli_bandit_0", "bernoulli_bandit_2"]
    table = shown.out[shown.out.rindex("overrides") :]
    assert table.count("failed") == 1
    job = table[table.index("bernoulli_bandit_1") : table.index("bernoulli_bandit_2")]
    assert "failed" in job
    assert culprit in re.sub(r"failed|\s", "", job)


def test_a_long_override_is_folded_and_not_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = f"agent.encoder_hidden_sizes=[{','.join('4' * 90)}]"
    call_program(tmp_path, "-m", *PLAIN, sizes, "seed=1", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    table = capsys.readouterr().out.rpartition("overrides")[2]
    assert sizes in re.sub(r"\s", "", re.sub(r"\d\.\d+|\b16\b", "", table))


def test_a_sweep_after_a_failed_one_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, values in {"failed": "3", "good": "2"}.items():
        given = ("-m", *PLAIN, f"learner.num_minibatches={values}")
        try:
            call_program(tmp_path, *given, f"hydra.sweep.dir={tmp_path / name}")
        except SystemExit:
            assert name == "failed"
    assert "failed" not in capsys.readouterr().out.rpartition("overrides")[2]
