"""The page and the figures, from rows and curves."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from omegaconf import OmegaConf

from results.cells import FOLDER, all_cells, find_cell, write_row
from results.curves import write_curves
from results.evaluate import Evaluation, row_of
from results.render import render
from results.request import Request
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.means import Estimate
from tests.results.builders import straight_curve


def fabricate(
    folder: Path,
    experiment: str,
    seed: int,
    agent: float,
    references: dict[str, float],
    steps: tuple[int, int] = (2_000_000, 2_000_000),
    measures: Mapping[str, Estimate] = MappingProxyType({}),
    trained_on: str = "",
    memory: str = "gru",
    num_episodes: int = 4,
) -> None:
    """Write a row and its curves like an evaluation."""
    cell = find_cell(experiment)
    first_size = next(iter(cell.place.values()))
    num_episodes = int(first_size) if first_size.isdigit() else num_episodes

    def curve(trial_return: float) -> Curve:
        return straight_curve(trial_return, num_episodes, half_width=0.04)

    agents = {"agent_greedy": curve(agent), "agent_sampled": curve(agent - 0.1)}
    others = {name: curve(value) for name, value in references.items()}
    told = {"Summary": {"training_seconds": 600.4}} if seed < 3 else {}
    content = {"hyper_parameters": {"seed": seed}, "callbacks": told}
    checkpoint = Checkpoint(content, "last.ckpt")
    found = Evaluation(agents, others, measures, 2017, trained_on, *steps)
    request = Request(cell, experiment, memory, {}, OmegaConf.create(), checkpoint)
    write_curves(folder / "curves" / f"{request.name}.csv", "tasks", agents)
    write_curves(folder / "curves" / f"{cell.name}_oracles.csv", "tasks", others)
    write_row(folder, cell, row_of(request, found, f"repeat {experiment} {seed}"))


def fabricate_tables(folder: Path) -> None:
    """Cells with different players, several seeds, a missed bar, and an unfinished run."""
    bandits = {"random": 5.0, "thompson": 5.83, "gittins": 6.64}
    fabricate(folder, "mab_n10_k5", 2, 6.62, {**bandits, "bayes_optimal": 6.66})
    fabricate(folder, "mab_n10_k5", 3, 6.59, {**bandits, "bayes_optimal": 6.66})
    longer = {"random": 50.0, "thompson": 74.5, "gittins": 78.4}
    fabricate(folder, "mab_n100_k5", 1, 77.9, longer, steps=(5_000_000, 20_000_000))
    mdps = {
        "random": 100.0,
        "epsilon_greedy": 150.0,
        "epsilon_greedy_prior_mean_0": 134.0,
        "optimal_policy": 200.0,
    }
    fabricate(folder, "mdp_n10", 1, 157.0, mdps, memory="matrix")
    fabricate(folder, "mdp_n10_lstm", 1, 153.0, mdps, memory="lstm")
    fabricate(folder, "grid_navi", 1, 36.0, {"known_goal": 44.0, "bayes_optimal": 37.0})
    measures = {
        "stay_interaction_greedy": Estimate(math.nan, math.nan),
        "stay_interaction_sampled": Estimate(0.25, 0.011),
        "stay_adjusted_interaction_sampled": Estimate(0.2, 0.01),
    }
    fabricate(folder, "two_step", 2, 120.0, {"model_based": 130.0}, measures=measures)
    fabricate(folder, "maze_9x9", 1, 1.0, {"shortest_path": 1.5}, trained_on="env.size=5")
    # Its players are in another order than those of GridNavi.
    fabricate(folder, "pair_easy", 1, 89.0, {"bayes_optimal": 80.0, "known_goal": 89.4})
    fabricate(folder, "restless", 1, 40.0, {"thompson_stationary": 39.95, "ucb1_stationary": 30.0})


def lines_of(folder: Path) -> list[str]:
    render(folder)
    return (folder / "README.md").read_text(encoding="utf-8").splitlines()


def entries(line: str) -> list[str]:
    return [entry.strip() for entry in line.strip("|").split("|")]


def test_each_row_is_a_line_and_missing_cells_are_open(tmp_path: Path) -> None:
    fabricate_tables(tmp_path)
    lines = lines_of(tmp_path)
    agents = [entries(line) for line in lines if line.startswith("| n=")]
    lines_of_agents = [line for line in agents if len(line) == 13]
    found = {(cell, agent, seed): rest for cell, agent, seed, *rest in lines_of_agents}
    greedy, sampled, reference, share, rl2, snail, bar, reached, steps, time = found[
        ("n=10, k=5", "gru", "2")
    ]
    assert (greedy, sampled) == ("6.620 ± 0.040", "6.520 ± 0.040")
    assert (reference, share) == ("6.660 ± 0.040 (bayes optimal)", "99.4%")
    assert (rl2, snail, bar, reached) == ("6.7", "6.6", "6.6", "yes")
    assert (steps, time) == ("2.0 M", "10 min")
    missed = found[("n=10, k=5", "gru", "3")]
    assert (missed[7], missed[9]) == ("no", "unknown")
    unfinished = found[("n=100, k=5", "gru", "1")]
    assert unfinished[2] == "78.400 ± 0.040 (gittins)", "the best player of this cell"
    assert unfinished[8] == "5.0 M of at most 20.0 M, not finished"
    assert found[("n=10", "matrix", "1")][2:4] == ["150.000 ± 0.040 (epsilon greedy)", "104.7%"]
    assert found[("n=10", "lstm", "1")][2:4] == ["150.000 ± 0.040 (epsilon greedy)", "102.0%"]
    missing = [cell for (cell, *_), rest in found.items() if rest[0] == "open"]
    assert len(missing) == 14 - 3
    assert {"n=500, k=50", "n=25", "n=10, k=10"} <= set(missing)


def test_other_families_show_whether_the_agent_adapts(tmp_path: Path) -> None:
    fabricate_tables(tmp_path)
    lines = lines_of(tmp_path)
    agents = {line[0]: line[1:] for line in map(entries, lines) if len(line) == 13}
    grid = agents["grid_navi"]
    assert grid[4:8] == [
        "37.000 ± 0.040 (bayes optimal)",
        "97.3%",
        "4.500 ± 0.040",
        "7.500 ± 0.040",
    ]
    assert grid[8:10] == ["95% of the reference from episode 2", "yes"]
    assert agents["restless"][8:10] == ["above thompson stationary and ucb1 stationary", "no"]
    assert agents["pair_easy"][4:6] == ["89.400 ± 0.040 (known goal)", "99.6%"]
    assert agents["maze_9x9"][10] == "2.0 M, on env.size=5"
    assert agents["pair_hard"] == ["", "", "open", *[""] * 5, "99% of the reference", "", "", ""]


def test_trials_of_one_episode_have_no_second_one(tmp_path: Path) -> None:
    fabricate(tmp_path, "meta_gradient_bandit", 1, 14.0, {"gittins": 14.5}, num_episodes=1)
    rows = [entries(line) for line in lines_of(tmp_path)]
    (row,) = (one for one in rows if one[:3] == ["meta_gradient_bandit", "gru", "1"])
    assert row[6:9] == ["96.6%", "7.000 ± 0.040", ""]


def test_analyses_have_a_table_of_their_own(tmp_path: Path) -> None:
    fabricate_tables(tmp_path)
    picture = tmp_path / "analyses" / "two_step_seed2" / "stay_probabilities.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    lines = lines_of(tmp_path)
    assert "| two_step | gru | 2 | stay interaction |  | 0.250 ± 0.011 |" in lines
    assert "![two_step_seed2](analyses/two_step_seed2/stay_probabilities.png)" in lines
    (two_step,) = (
        line
        for line in map(entries, lines)
        if line[:4] == ["two_step", "gru", "2", "120.000 ± 0.040"]
    )
    assert two_step[5:7] == ["130.000 ± 0.040 (model based)", "92.3%"]
    assert two_step[9:11] == ["reward × transition: an interaction", "yes"]


def test_the_page_is_that_of_the_rows(tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("checkpoints", "__pycache__"))
    render(copy)
    assert (copy / "README.md").read_text() == (FOLDER / "README.md").read_text(), "make results"


def test_no_share_of_a_loss(tmp_path: Path) -> None:
    fabricate(tmp_path, "grid_navi", 1, -3.0, {"random": -4.0, "known_goal": -2.0})
    (line,) = (
        line for line in map(entries, lines_of(tmp_path)) if line[:3] == ["grid_navi", "gru", "1"]
    )
    assert line[6] == ""


def test_reference_players_stand_beside_what_was_published_of_them(tmp_path: Path) -> None:
    fabricate_tables(tmp_path)
    lines = lines_of(tmp_path)
    heads = [number for number, line in enumerate(lines) if line.startswith("| player |")]
    bandits, mdps = (lines_of_table(lines, head) for head in heads)
    assert bandits["thompson"]["n=10, k=5"] == "5.830 ± 0.040 (5.7)"
    assert bandits["bayes optimal"]["n=10, k=5"] == "6.660 ± 0.040"
    assert bandits["bayes optimal"]["n=100, k=5"] == ""
    assert mdps["random"]["n=10"] == "100.000 ± 0.040 (100.1)"
    assert mdps["epsilon greedy"]["n=10"] == "150.000 ± 0.040", "published with the other prior"
    assert mdps["epsilon greedy, as published"]["n=10"] == "134.000 ± 0.040 (132.8)"
    assert list(mdps)[-2:] == ["epsilon greedy, as published", "optimal policy"]


def lines_of_table(lines: list[str], head: int) -> dict[str, dict[str, str]]:
    """The lines of a table by their first entry, each by its columns."""
    end = lines.index("", head)
    names = entries(lines[head])
    table = [dict(zip(names, entries(line), strict=True)) for line in lines[head + 2 : end]]
    return {line[names[0]]: line for line in table}


def test_the_commands_of_all_rows_are_told(tmp_path: Path) -> None:
    fabricate_tables(tmp_path)
    lines = lines_of(tmp_path)
    first = lines.index("```bash") + 1
    assert lines[first : lines.index("```", first)] == [
        "repeat mab_n10_k5 2",
        "repeat mab_n10_k5 3",
        "repeat mab_n100_k5 1",
        "repeat mdp_n10 1",
        "repeat mdp_n10_lstm 1",
        "repeat pair_easy 1",
        "repeat restless 1",
        "repeat two_step 2",
        "repeat grid_navi 1",
        "repeat maze_9x9 1",
    ]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    fabricate_tables(tmp_path)
    written = []
    for _ in range(2):
        render(tmp_path)
        names = ("README.md", "mab.png", "mdp.png", "worlds.png")
        written.append([(tmp_path / name).read_bytes() for name in names])
    assert written[0] == written[1]
    assert all(picture.startswith(b"\x89PNG") for picture in written[0][1:])


def test_an_empty_folder_gives_open_tables(tmp_path: Path) -> None:
    lines = lines_of(tmp_path)
    assert sum("| open |" in line for line in lines) == len(all_cells())
    assert not list(tmp_path.glob("*.png"))
    assert "```bash" not in lines
