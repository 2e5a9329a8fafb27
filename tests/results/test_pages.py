"""The figures on pages are those of the rows and curves in results/."""

import re

import pytest

from results.cells import FOLDER
from results.curves import read_curves
from tests.builders import ROOT

PAGE = (ROOT / "docs" / "varibad.md").read_text(encoding="utf-8")
GRIDS = "varibad_grid_navi"
ROBOTS = "varibad_point_robot_sparse"
# The beginning of a line of a table, the file with its curves, and the player.
LINES = {
    "Bayes-optimal player": (f"{GRIDS}_oracles", "bayes_optimal"),
    f"VariBAD, `{GRIDS}`": (f"{GRIDS}_seed1", "agent_greedy"),
    "RL², `rl2_belief_grid_navi`": ("rl2_belief_grid_navi_seed1", "agent_greedy"),
    "a player that knows the goal": (f"{ROBOTS}_oracles", "known_goal"),
    "RL², `point_robot_sparse`": ("point_robot_sparse_seed1", "agent_greedy"),
    f"VariBAD, `{ROBOTS}`": (f"{ROBOTS}_seed1", "agent_greedy"),
    "RL², `rl2_belief_point_robot_sparse`": (
        "rl2_belief_point_robot_sparse_seed1",
        "agent_greedy",
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_returns_of_trial_and_episodes(line: str) -> None:
    (printed,) = re.findall(rf"^\| {re.escape(line)}[^|]*\|(.*)\|$", PAGE, flags=re.MULTILINE)
    name, player = LINES[line]
    curve = read_curves(FOLDER / "curves" / f"{name}.csv")[1][player]
    expected = [curve.trial_return, *curve.mean.tolist()]
    found = printed.split("|")[: len(expected)]
    for text, number in zip(found, expected, strict=True):
        decimals = len(text.strip().partition(".")[2])
        assert float(text) == pytest.approx(number, abs=0.5001 * 10**-decimals)
