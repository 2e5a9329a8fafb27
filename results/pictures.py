"""Render a small picture of each family for the README: `python -m results.pictures`."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from results.cells import FOLDER
from results.curves import read_curves
from results.tables import AGENTS, WRONG_PRIOR
from rl2_lightning.evaluation.plots import draw_adaptation_curves

PICTURES = FOLDER.parent / "docs" / "images" / "families"
# The cell whose curves represent a family, by the name of its file in configs/env/.
SHOWN: Mapping[str, str] = {
    "bernoulli_bandit": "mab_n100_k10",
    "gaussian_bandit": "gaussian_n100_k5",
    "dependent_bandit": "pair_medium",
    "informative_bandit": "informative",
    "restless_bandit": "restless",
    "tabular_mdp": "mdp_n10",
    "two_step": "two_step",
    "grid_navi": "grid_navi",
    "point_robot": "point_robot",
    "cart_pole": "cart_pole",
    "pendulum": "pendulum",
    "visual_maze": "maze_5x5",
}


def family_figure(cell: str, folder: Path) -> Figure:
    """The agent's curve with the random player's and the reference's, without a legend.

    Args:
        cell: cell whose curves are drawn, with seed 1.
        folder: folder of the curves.
    """
    _, agents = read_curves(folder / f"{cell}_seed1.csv")
    _, found = read_curves(folder / f"{cell}_oracles.csv")
    names = [name for name in found if not name.endswith(WRONG_PRIOR)]
    reference = names[-1]
    shown = {name: found[name] for name in dict.fromkeys(("random", reference)) if name in found}
    mode, label = next(iter(AGENTS.items()))
    figure = Figure(figsize=(3.4, 2.4), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    draw_adaptation_curves(axes, {label: agents[mode]}, shown, reference)
    for note in list(axes.texts):
        note.remove()
    axes.set_xlabel("episode")
    axes.set_ylabel("return")
    return figure


def render(folder: Path) -> None:
    """Write the picture of every family."""
    folder.mkdir(parents=True, exist_ok=True)
    for family, cell in SHOWN.items():
        figure = family_figure(cell, FOLDER / "curves")
        figure.savefig(folder / f"{family}.png", metadata={"Software": None})


if __name__ == "__main__":
    render(PICTURES)
