"""The comparison of memories: its command lines, its rows and its tables."""

from pathlib import Path

import pytest

from results import memories
from results.cells import read_rows
from results.comparison import steps_to
from results.comparison_tables import memories_text
from results.memories import COMPARISON, TASKS, overrides_of
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.config import register_schemas
from rl2_lightning.errors import UserError
from tests.builders import ROOT

PAIRS = [(task, memory) for task in TASKS for memory in COMPARISON.names[task]]


@pytest.mark.parametrize(("task", "memory"), PAIRS)
def test_every_memory_is_built_for_the_length_of_the_trials(
    tmp_path: Path, task: str, memory: str
) -> None:
    register_schemas()
    cfg = COMPARISON.compose(task, memory, tmp_path, "evaluation.test_tasks=2")
    cfg.evaluation.validation_tasks = 2
    data = build_data(cfg)
    assert data.world.specimen.max_steps == TASKS[task].length
    build_learner(cfg, data)
    assert data.plan.num_iterations > COMPARISON.num_validations


def test_memories_differ_in_the_agent_alone() -> None:
    shipped = {path.stem for path in (ROOT / "configs" / "memory").glob("*.yaml")}
    assert set(memories.MEMORIES) == shipped
    for task in TASKS:
        lines = [set(overrides_of(task, memory)) for memory in COMPARISON.names[task]]
        common = set.intersection(*lines)
        assert common == set(TASKS[task].overrides)
        own = {text.partition(".")[0].partition("=")[0] for line in lines for text in line - common}
        assert own <= {"memory", "agent"}


@pytest.mark.parametrize(
    ("task", "memory", "words"),
    [
        ("mdp_n9", "gru", "task mdp_n9 is not compared: use one of mab_n10_k5, "),
        ("mdp_n10", "grue", "memory grue is not compared on mdp_n10: use one of gru, "),
        ("grid_navi", "action_queries", "memory action_queries is not compared on grid_navi: use"),
    ],
)
def test_what_is_not_compared(task: str, memory: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        COMPARISON.overrides(task, memory)


def test_a_run_gives_a_row_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_schemas()
    small = memories.Task(
        (
            *("experiment=mab_n10_k5", "evaluation.validation_tasks=4", "evaluation.test_tasks=6"),
            *("collection.num_trials=8", "collection.total_env_steps=240"),
            *("learner.num_minibatches=2", "trainer.accelerator=cpu"),
        ),
        10,
    )
    monkeypatch.setitem(memories.TASKS, "mab_n10_k5", small)
    folder = COMPARISON.train("mab_n10_k5", "gru", tmp_path)
    row = COMPARISON.row("mab_n10_k5", "gru", folder)
    assert row["env_steps"] == "240"
    assert [point.split(":")[0] for point in row["curve"].split()] == ["80", "160", "240"]
    assert 0 < float(row["agent_greedy"]) < 10
    assert row["reference"] == "bayes_optimal"
    assert 0 < float(row["validation_reference"]) < 10
    written = (folder / "summary.json").stat().st_mtime_ns
    assert COMPARISON.train("mab_n10_k5", "gru", tmp_path) == folder
    assert (folder / "summary.json").stat().st_mtime_ns == written


def row(task: str, memory: str, value: float, curve: str = "") -> dict[str, str]:
    return {
        "task": task,
        "memory": memory,
        "parameters": "14208",
        "agent_greedy": str(value),
        "agent_greedy_half_width": "0.5",
        "random": "50",
        "reference": "gittins",
        "reference_return": "80",
        "validation_reference": "82",
        "curve": curve,
    }


def test_rows_become_a_table_for_each_task(tmp_path: Path) -> None:
    COMPARISON.write_rows(tmp_path, [row("mab_n100_k10", "matrix", 60)])
    COMPARISON.write_rows(
        tmp_path, [row("mab_n100_k10", "gru", 76, "500000:70 1000000:78 1500000:79")]
    )
    COMPARISON.write_rows(tmp_path, [row("mab_n100_k10", "matrix", 80)])
    assert [one["memory"] for one in read_rows(tmp_path, "memories")] == ["gru", "matrix"]
    speeds = [
        {"task": "mab_n100_k10", "memory": name, "collect": "200", "optimise": rate}
        for name, rate in (("gru", "100"), ("matrix", "250"))
    ]
    COMPARISON.write_rows(tmp_path, speeds, "memory_speeds")
    lines = memories_text(tmp_path).splitlines()
    assert lines[0].startswith("**mab_n100_k10**, 2 M env steps; the reference (gittins) has 80")
    found = {line.split(" | ")[0]: line for line in lines}
    assert found["| gru"].endswith("76.00 ± 0.50 | 95.0% | 1.00 M | 1 × | 1 × |")
    assert found["| matrix"].endswith("80.00 ± 0.50 | 100.0% | not reached | 1 × | 2.5 × |")
    assert "| snail | open" in memories_text(tmp_path)


def test_the_first_of_three_validations_that_reach_a_return() -> None:
    assert steps_to("100000:1 200000:3 300000:2", 2) == "0.20 M"
    assert steps_to("100000:3 200000:1 300000:3 400000:3 500000:2", 2) == "0.30 M"
    assert steps_to("100000:3 200000:1 300000:3", 2) == "0.30 M"
    assert steps_to("100000:1", 2) == "not reached"
