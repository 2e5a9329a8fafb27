"""A precision that does not pay on a CPU is refused before a training begins."""

from collections.abc import Iterator
from itertools import accumulate, cycle
from pathlib import Path

import pytest
import torch

from rl2_lightning import precision
from rl2_lightning.errors import UserError
from rl2_lightning.precision import require_useful_precision, slowdown_of
from tests.builders import MEMORIES, corridor_trials, make_agent
from tests.command_line.program import PLAIN, call_program, mistake_told

CPU = torch.device("cpu")


def seconds(in_float32: float, in_bfloat16: float) -> Iterator[float]:
    """What a clock shows at the beginning and end of each pass, in turns."""
    return accumulate(cycle((1.0, in_float32, 1.0, in_bfloat16)))


@pytest.mark.parametrize("memory", MEMORIES)
def test_both_precisions_are_timed_with_the_agent(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent(corridor_trials(2), memory)
    dtypes = []
    product = torch.nn.functional.linear

    def watched(*given: torch.Tensor) -> torch.Tensor:
        dtypes.append((found := product(*given)).dtype)
        return found

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    before = {name: weight.clone() for name, weight in agent.state_dict().items()}
    assert 0.02 < slowdown_of(agent, 3) < 50
    assert set(dtypes) == {torch.float32, torch.bfloat16}
    assert all(weight.equal(before[name]) for name, weight in agent.state_dict().items())
    assert all(weight.grad is None for weight in agent.parameters())


def test_what_is_slower_is_refused_with_the_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(corridor_trials(2))
    clock = seconds(2.0, 5.0)
    monkeypatch.setattr(precision, "perf_counter", lambda: next(clock))
    told = r"^trainer\.precision=bf16-mixed on this processor: .* 2\.5 times as long .*=32-true$"
    with pytest.raises(UserError, match=told):
        require_useful_precision("bf16-mixed", agent, CPU, 3)


@pytest.mark.parametrize("in_bfloat16", [1.0, 2.1])
def test_what_is_not_slower_is_accepted(
    monkeypatch: pytest.MonkeyPatch, in_bfloat16: float
) -> None:
    agent = make_agent(corridor_trials(2))
    clock = seconds(2.0, in_bfloat16)
    monkeypatch.setattr(precision, "perf_counter", lambda: next(clock))
    require_useful_precision("bf16-mixed", agent, CPU, 3)


def test_nothing_is_timed_in_float32_or_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "slowdown_of", lambda *_: 9.0)
    agent = make_agent(corridor_trials(2))
    require_useful_precision("32-true", agent, CPU, 3)
    for name in ("bf16-mixed", "16-mixed"):
        require_useful_precision(name, agent, torch.device("cuda"), 3)


def test_a_training_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "slowdown_of", lambda *_: 3.21)
    given = (*PLAIN, f"hydra.run.dir={tmp_path / 'run'}")
    line = mistake_told(tmp_path, *given, "trainer.precision=bf16-mixed")
    assert "takes 3.2 times as long as in float32" in line
    line = mistake_told(tmp_path, *given, "trainer.precision=16-mixed")
    assert line == (
        "error: trainer.precision=16-mixed on a CPU, which is for GPUs: set trainer.precision="
        "32-true"
    )
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.parametrize("learner", ["ppo", "trpo"])
def test_a_training_that_pays_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str
) -> None:
    monkeypatch.setattr(precision, "slowdown_of", lambda *_: 0.5)
    given = (*PLAIN, "trainer.precision=bf16-mixed", f"hydra.run.dir={tmp_path / 'run'}")
    call_program(tmp_path, *given, f"learner={learner}")
    assert (tmp_path / "run" / "summary.json").exists()
