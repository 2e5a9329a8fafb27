"""The comparison of learners: its experiments, its tables and its figure."""

from pathlib import Path

import pytest

from results.cells import Row
from results.comparison_tables import learners_figure, learners_text
from results.learners import COMPARISON, LEARNERS, TASKS
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.config import register_schemas
from rl2_lightning.errors import UserError
from tests.builders import ROOT

PAIRS = [(task, learner) for task in TASKS for learner in COMPARISON.names[task]]


@pytest.mark.parametrize(("task", "learner"), PAIRS)
def test_every_experiment_trains_its_learner_on_its_task(
    tmp_path: Path, task: str, learner: str
) -> None:
    register_schemas()
    cfg = COMPARISON.compose(task, learner, tmp_path, "evaluation.test_tasks=2")
    cfg.evaluation.validation_tasks = 2
    data = build_data(cfg)
    assert type(build_learner(cfg, data)).__module__ == f"rl2_lightning.learners.{learner}"
    assert data.plan.num_iterations > COMPARISON.num_validations
    ppo = COMPARISON.compose(task, "ppo", tmp_path)
    assert (cfg.env, cfg.trial) == (ppo.env, ppo.trial)


def test_the_learners_of_the_same_agents_are_compared() -> None:
    shipped = {path.stem for path in (ROOT / "configs" / "learner").glob("*.yaml")}
    # These have comparisons of their own: a belief with RL², learnt discounts with fixed ones.
    assert set(LEARNERS) == shipped - {"varibad", "a2c", "meta_gradient"}
    assert COMPARISON.names["mab_n10_k5"] == COMPARISON.names["grid_navi"] == list(LEARNERS)


def test_what_is_not_compared() -> None:
    with pytest.raises(UserError, match="learner r2d2 is not compared on point_robot: use one of"):
        COMPARISON.overrides("point_robot", "r2d2")


def row(task: str, learner: str, value: float, reference: float, curve: str) -> Row:
    return {
        "task": task,
        "learner": learner,
        "env_steps": "2000000",
        "agent_greedy": str(value),
        "agent_greedy_half_width": "0.5",
        "random": "-50",
        "reference": "knows_the_goal",
        "reference_return": str(reference),
        "validation_reference": str(reference),
        "curve": curve,
    }


def test_rows_become_tables_and_a_figure(tmp_path: Path) -> None:
    assert learners_figure(tmp_path) is None
    curve = "500000:77 1000000:75 1500000:76.5 2000000:79"
    COMPARISON.write_rows(tmp_path, [row("grid_navi", "trpo", 79, 80, curve)])
    COMPARISON.write_rows(tmp_path, [row("point_robot", "ppo", -9, -8, "500000:-10")])
    text = learners_text(tmp_path)
    assert "**grid_navi**; the reference (knows the goal) has 80, random play -50." in text
    assert "| trpo | 2.0 M | 79.00 ± 0.50 | 98.8% | 1.50 M | not reached |" in text
    assert "| r2d2 | open |" in text
    assert "| ppo | 2.0 M | -9.00 ± 0.50 |  |  |  |" in text
    figure = learners_figure(tmp_path)
    assert figure is not None
    with_shares, without = figure.axes
    assert [line.get_label() for line in with_shares.lines] == [
        *("trpo", "knows the goal", "95% of it", "99% of it")
    ]
    assert list(with_shares.lines[0].get_xdata()) == [0.5, 1.0, 1.5, 2.0]
    assert [line.get_label() for line in without.lines] == ["ppo", "knows the goal"]
