"""Renders both tables and the adaptation curves: `python -m results.render`."""

import csv
from collections import defaultdict
from pathlib import Path

import torch
from matplotlib.figure import Figure

from callbacks.files import write_atomically
from results.cells import FOLDER, Cell, Row, all_cells, read_rows
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.plots import draw_adaptation_curves

TITLES = {"mab": "Bernoulli bandits", "mdp": "Tabular MDPs"}
SIZES = {
    "mab": "n pulls of k arms, p ~ U[0, 1]",
    "mdp": "n episodes of 10 steps, 10 states, 5 actions",
}
REFERENCES = {"mab": ("bayes_optimal", "gittins"), "mdp": ("optimal_policy",)}
AGENTS = {"agent_greedy": "agent, greedy", "agent_sampled": "agent, sampled"}
COLUMNS_OF_PANELS = 3


def players_of(row: Row) -> list[str]:
    """The players that were measured for a row, in the order of its columns."""
    measured = [name.removesuffix("_half_width") for name in row if name.endswith("_half_width")]
    return [name for name in measured if row[name]]


def figure_text(row: Row, player: str) -> str:
    """A mean return with its interval."""
    value, half_width = float(row[player]), float(row[f"{player}_half_width"])
    decimals = 3 if half_width < 0.1 else 2 if half_width < 1 else 1
    return f"{value:.{decimals}f} ± {half_width:.{decimals}f}"


def agent_table(cells: list[Cell], rows: dict[str, list[Row]]) -> list[str]:
    """One line for each cell and seed: the agent beside what it is measured against."""
    lines = [
        "| cell | seed | greedy | sampled | reference on the same tasks | RL² as published "
        "| SNAIL as published | bar | reached | env steps | training |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        published = f"{cell.published['rl2']} | {cell.published['snail']} | {cell.bar}"
        measured = rows[cell.experiment]
        if not measured:
            lines.append(f"| {size_text(cell)} | | open | | | {published} | | | |")
        for row in measured:
            players = players_of(row)
            reference = next(name for name in REFERENCES[cell.table] if name in players)
            lines.append(
                f"| {size_text(cell)} | {row['seed']} | {figure_text(row, 'agent_greedy')} "
                f"| {figure_text(row, 'agent_sampled')} "
                f"| {figure_text(row, reference)} ({_words(reference)}) "
                f"| {published} | {row['reached']} | {steps_text(row)} "
                f"| {_duration(float(row['training_seconds']))} |"
            )
    return lines


def oracle_table(cells: list[Cell], rows: dict[str, list[Row]]) -> list[str]:
    """One line for each cell: every oracle on our tasks, and as published where it was."""
    measured = {
        cell.experiment: rows[cell.experiment][0] for cell in cells if rows[cell.experiment]
    }
    players = list(
        dict.fromkeys(
            name for row in measured.values() for name in players_of(row) if name not in AGENTS
        )
    )
    lines = [
        "| cell | " + " | ".join(_words(name) for name in players) + " |",
        "|---" * (len(players) + 1) + "|",
    ]
    for cell in cells:
        if cell.experiment not in measured:
            continue
        row = measured[cell.experiment]
        entries = []
        for name in players:
            entry = figure_text(row, name) if row.get(name) else ""
            published = row.get(f"published_{name.removesuffix('_prior_mean_0')}")
            wrong_prior = cell.table == "mdp" and f"{name}_prior_mean_0" in players
            entries.append(f"{entry} ({published})" if published and not wrong_prior else entry)
        lines.append(f"| {size_text(cell)} | " + " | ".join(entries) + " |")
    return lines


def size_text(cell: Cell) -> str:
    """The sizes of a cell, as the paper writes them."""
    return ", ".join(
        f"{letter}={size}" for letter, size in zip("nk", cell.sizes.values(), strict=False)
    )


def steps_text(row: Row) -> str:
    """How far the training went."""
    steps, budget = int(row["env_steps"]), int(row["total_env_steps"])
    millions = f"{steps / 1e6:.1f} M"
    # A budget holds whole iterations only, so the last one may leave a rest.
    return millions if steps > 0.97 * budget else f"{millions} of {budget / 1e6:.1f} M"


def read_curves(path: Path, row: Row) -> dict[str, Curve]:
    """The curves of all players of a row, from the file that stands beside the table."""
    means: dict[str, list[float]] = defaultdict(list)
    halves: dict[str, list[float]] = defaultdict(list)
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            means[line["player"]].append(float(line["mean"]))
            halves[line["player"]].append(float(line["half_width"]))
    return {
        name: Curve(
            mean=torch.tensor(means[name], dtype=torch.float64),
            half_width=torch.tensor(halves[name], dtype=torch.float64),
            trial_return=float(row[name]),
            trial_half_width=float(row[f"{name}_half_width"]),
            num_trials=int(row["num_tasks"]),
        )
        for name in means
    }


def curves_figure(cells: list[Cell], rows: dict[str, list[Row]], folder: Path) -> Figure | None:
    """A panel for each cell that has been evaluated; its first seed."""
    shown = [(cell, rows[cell.experiment][0]) for cell in cells if rows[cell.experiment]]
    if not shown:
        return None
    columns = min(COLUMNS_OF_PANELS, len(shown))
    height = -(-len(shown) // columns)
    figure = Figure(figsize=(6.5 * columns, 5.6 * height), dpi=90, layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).flatten()
    for axes, (cell, row) in zip(panels, shown, strict=False):
        curves = read_curves(folder / "curves" / f"{cell.experiment}_seed{row['seed']}.csv", row)
        reference = next(name for name in REFERENCES[cell.table] if name in curves)
        agents = {label: curves.pop(name) for name, label in AGENTS.items()}
        draw_adaptation_curves(axes, agents, curves, reference)
        axes.set_title(size_text(cell), loc="left")
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.14),
            ncols=2,
            frameon=False,
            fontsize="small",
            title="mean return of a trial ± 95 %",
            title_fontsize="small",
            alignment="left",
        )
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    return figure


def render(folder: Path) -> None:
    """Writes `README.md` and the figures beside the tables."""
    cells = all_cells()
    parts = [INTRODUCTION]
    for table, title in TITLES.items():
        own = [cell for cell in cells.values() if cell.table == table]
        rows: dict[str, list[Row]] = {cell.experiment: [] for cell in own}
        for row in read_rows(folder, table):
            for cell in own:
                if all(int(row[name]) == size for name, size in cell.sizes.items()):
                    rows[cell.experiment].append(row)
        figure = curves_figure(own, rows, folder)
        parts += [f"## {title}", f"Total reward of a trial: {SIZES[table]}."]
        parts.append("\n".join(agent_table(own, rows)))
        if figure is not None:
            parts += [ORACLES, "\n".join(oracle_table(own, rows))]
            figure.savefig(folder / f"{table}.png", metadata={"Software": None})
            parts.append(f"![Adaptation curves]({table}.png)")
    write_atomically(folder / "README.md", "\n\n".join(parts) + "\n")


INTRODUCTION = """\
# Results

Written by `python -m results.render` from `mab.csv` and `mdp.csv`, which \
`python -m results.evaluate` writes; [docs/results.md](../docs/results.md) says how. The last \
checkpoint counts, on 10 000 held-out tasks that nobody looked at before, ± 95 %. Every row's \
weights are in `checkpoints/`, and the command that repeats it in its last column. "Open" is what \
has not been trained yet."""
ORACLES = "The oracles on the same tasks, and in brackets as published, on 1000 tasks:"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"


if __name__ == "__main__":
    render(FOLDER)
