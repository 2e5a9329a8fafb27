"""The rows in the repository match the stored weights and curves."""

import shlex
from typing import Any

import pytest

from results.cells import FOLDER, HALF_WIDTH, Cell, Row, all_cells, read_rows
from results.curves import read_curves
from results.request import compose_evaluation
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.config import register_schemas
from tests.extras.experiments import WITH_EXTRA
from tests.extras.packages import needs

TABLES = ("mab", "mdp", "worlds", "gymnasium")
ROWS = [
    (next(cell for cell in all_cells().values() if cell.table == table and cell.is_of(row)), row)
    for table in TABLES
    for row in read_rows(FOLDER, table)
]
names = [row["name"] for _, row in ROWS]
rows = pytest.mark.parametrize(("cell", "row"), ROWS, ids=names)


def marked(cell: Cell, row: Row) -> Any:
    """A row whose environment is made, which may need an extra."""
    extra = WITH_EXTRA.get(cell.name)
    return pytest.param(cell, row, marks=needs(extra) if extra else [])


@pytest.mark.parametrize(("cell", "row"), [marked(*one) for one in ROWS], ids=names)
def test_the_command_of_a_row_finds_weights_that_fit(
    cell: Cell, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_schemas()
    monkeypatch.chdir(FOLDER.parent)
    _, _, _, *overrides = shlex.split(row["command"])
    request = compose_evaluation(overrides)
    cfg, checkpoint = request.cfg, request.checkpoint
    assert request.cell == cell
    assert (request.name, request.experiment) == (row["name"], row["experiment"])
    assert request.agent == row["agent"]
    assert cfg.ckpt_path == f"results/checkpoints/{row['name']}.ckpt"
    assert str(cfg.evaluation.test_tasks) == row["num_tasks"]
    assert str(checkpoint.config["seed"]) == row["seed"]
    assert (checkpoint.config.get("start_from") or "") == row["started_from"]
    cfg.evaluation.test_tasks = cfg.evaluation.validation_tasks = 2
    learner = build_learner(cfg, build_data(cfg))
    if row["trained_on"]:
        # A critic that sees the task is of the size of the tasks of its training.
        checkpoint.require_fitting(learner.agent, prefix="agent.")
    else:
        checkpoint.require_fitting(learner)


@rows
def test_the_figures_of_a_row_are_those_of_its_curves(cell: Cell, row: Row) -> None:
    curves = FOLDER / "curves"
    for name in (row["name"], f"{cell.name}_oracles"):
        _, players = read_curves(curves / f"{name}.csv")
        for player, curve in players.items():
            assert row[player] == f"{curve.trial_return:.4f}"
            assert row[f"{player}{HALF_WIDTH}"] == f"{curve.trial_half_width:.4f}"
            assert str(curve.num_trials) == row["num_tasks"]
    assert row["bar"] == str(cell.bar)
