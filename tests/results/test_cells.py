"""The cells of the tables, and the files of their rows."""

from pathlib import Path

import pytest

from results.bars import Return
from results.cells import all_cells, find_cell, read_rows, write_row
from rl2_lightning.errors import UserError
from tests.builders import ROOT, compose_config


def test_every_cell_has_an_experiment_of_its_size(tmp_path: Path) -> None:
    cells = {name: cell for name, cell in all_cells().items() if cell.table != "worlds"}
    assert len(cells) == 14
    for name, cell in cells.items():
        assert (ROOT / "configs" / "experiment" / f"{name}.yaml").exists()
        cfg = compose_config(tmp_path, f"experiment={name}")
        sizes = {
            "num_pulls": cfg.trial.episodes_per_trial,
            "n": cfg.trial.episodes_per_trial,
            "num_arms": cfg.env.get("num_arms"),
        }
        assert all(str(sizes[column]) == size for column, size in cell.place.items())


def test_every_experiment_is_in_a_table() -> None:
    shipped = {path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml")}
    assert set(all_cells()) == shipped - {"default"}


def test_the_published_figures_are_those_of_the_cell() -> None:
    assert find_cell("mab_n100_k50").published["rl2"] == "84.9"
    assert find_cell("mab_n100_k50").bar == Return(84.7)
    assert find_cell("mdp_n75").published["snail"] == "1447.5"
    players = {"random", "psrl", "opsrl", "ucrl2", "beb", "epsilon_greedy", "greedy"}
    assert set(find_cell("mdp_n75").published) == {*players, "rl2", "snail"}


def test_an_experiment_of_no_table() -> None:
    with pytest.raises(UserError, match=r"experiment=mab_n7_k3 .* mab_n10_k5, "):
        find_cell("mab_n7_k3")


def row(num_arms: int, seed: int, **more: str) -> dict[str, str]:
    return {"num_pulls": "10", "num_arms": str(num_arms), "seed": str(seed), **more}


def test_rows_stand_in_order_and_replace_their_like(tmp_path: Path) -> None:
    for name, one in (
        ("mab_n10_k50", row(50, 1, agent_greedy="1")),
        ("mab_n10_k5", row(5, 10, agent_greedy="2")),
        ("mab_n10_k5", row(5, 2, agent_greedy="3", bayes_optimal="4")),
        ("mab_n10_k50", row(50, 1, agent_greedy="5")),
    ):
        write_row(tmp_path, find_cell(name), one)
    rows = read_rows(tmp_path, "mab")
    places = [(one["num_arms"], one["seed"], one["agent_greedy"]) for one in rows]
    assert places == [("5", "2", "3"), ("5", "10", "2"), ("50", "1", "5")]
    assert [one["bayes_optimal"] for one in rows] == ["4", "", ""]
    assert read_rows(tmp_path, "mdp") == []


def test_other_families_stand_in_the_order_of_their_bars(tmp_path: Path) -> None:
    for name in ("two_step", "pair_hard", "pair_easy"):
        write_row(tmp_path, find_cell(name), {"experiment": name, "seed": "1"})
    rows = read_rows(tmp_path, "worlds")
    assert [one["experiment"] for one in rows] == ["pair_easy", "pair_hard", "two_step"]
