"""The cells of the tables, and the files of their rows."""

from pathlib import Path

import pytest

from results import bars
from results.bars import Return
from results.cells import SIZES, all_cells, find_cell, read_rows, write_row
from rl2_lightning.errors import UserError
from tests.builders import compose_config
from tests.extras.experiments import EXPERIMENTS, GYMNASIUM


def test_every_cell_has_an_experiment_of_its_size(tmp_path: Path) -> None:
    cells = {name: cell for name, cell in all_cells().items() if cell.table in SIZES}
    assert len(cells) == 14
    for name, cell in cells.items():
        assert cell.experiments[0] == name
        for experiment in cell.experiments:
            cfg = compose_config(tmp_path, f"experiment={experiment}")
            sizes = {
                "num_pulls": cfg.trial.episodes_per_trial,
                "n": cfg.trial.episodes_per_trial,
                "num_arms": cfg.env.get("num_arms"),
            }
            assert all(str(sizes[column]) == size for column, size in cell.place.items())


def test_every_experiment_is_in_a_table() -> None:
    trained = [name for cell in all_cells().values() for name in cell.experiments]
    assert len(trained) == len(set(trained))
    # Others of Gymnasium's environments are examples for a user's own.
    assert {*EXPERIMENTS} - {"default"} - {*GYMNASIUM} <= set(trained) <= {*EXPERIMENTS}
    assert {name for name in trained if name in GYMNASIUM} == {*bars.GYMNASIUM}


def test_experiments_of_other_memories_train_the_same_cell() -> None:
    cell = find_cell("mdp_n25")
    assert find_cell("mdp_n25_lstm") == cell
    assert cell.experiments == ["mdp_n25", "mdp_n25_lstm"]
    assert find_cell("two_step_without_reward").experiments == ["two_step_without_reward"]


def test_the_published_figures_are_those_of_the_cell() -> None:
    assert find_cell("mab_n100_k50").published["rl2"] == "84.9"
    assert find_cell("mab_n100_k50").bar == Return(84.7)
    assert find_cell("mdp_n75").published["snail"] == "1447.5"
    players = {"random", "psrl", "opsrl", "ucrl2", "beb", "epsilon_greedy", "greedy"}
    assert set(find_cell("mdp_n75").published) == {*players, "rl2", "snail"}


def test_an_experiment_of_no_table() -> None:
    with pytest.raises(UserError, match=r"experiment=mab_n7_k3 .* mab_n10_k5, "):
        find_cell("mab_n7_k3")


def row(cell: str, seed: int, experiment: str = "", trained_on: str = "") -> dict[str, str]:
    experiment = experiment or cell
    return {
        **find_cell(cell).place,
        "name": "_".join(part for part in (experiment, trained_on, f"seed{seed}") if part),
        "experiment": experiment,
        "seed": str(seed),
        "trained_on": trained_on,
    }


def test_rows_stand_in_order_and_replace_their_like(tmp_path: Path) -> None:
    for one in (
        {**row("mab_n100_k50", 1), "agent_greedy": "1"},
        row("mab_n100_k50", 1, experiment="mab_n100_k50_gru"),
        row("mab_n10_k5", 10),
        row("mab_n100_k50", 1, trained_on="num_arms10"),
        {**row("mab_n10_k5", 2), "bayes_optimal": "4"},
        {**row("mab_n100_k50", 1), "agent_greedy": "5"},
    ):
        write_row(tmp_path, find_cell(one["experiment"]), one)
    rows = read_rows(tmp_path, "mab")
    assert [one["name"] for one in rows] == [
        "mab_n10_k5_seed2",
        "mab_n10_k5_seed10",
        "mab_n100_k50_seed1",
        "mab_n100_k50_num_arms10_seed1",
        "mab_n100_k50_gru_seed1",
    ]
    assert [one["agent_greedy"] for one in rows] == ["", "", "5", "", ""]
    assert [one["bayes_optimal"] for one in rows] == ["4", "", "", "", ""]
    assert read_rows(tmp_path, "mdp") == []


def test_other_families_stand_in_the_order_of_their_bars(tmp_path: Path) -> None:
    for name in ("two_step", "pair_hard", "pair_easy"):
        write_row(tmp_path, find_cell(name), row(name, 1))
    rows = read_rows(tmp_path, "worlds")
    assert [one["cell"] for one in rows] == ["pair_easy", "pair_hard", "two_step"]
