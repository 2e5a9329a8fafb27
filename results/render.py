"""Renders both tables and the adaptation curves: `python -m results.render`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from callbacks.files import write_atomically
from results.cells import FOLDER, Cell, Row, all_cells, read_rows
from results.curves import read_curves
from rl2_lightning.evaluation.plots import draw_adaptation_curves

TITLES = {"mab": "Bernoulli bandits", "mdp": "Tabular MDPs"}
SIZES = {
    "mab": "n pulls of k arms, p ~ U[0, 1]",
    "mdp": "n episodes of 10 steps, 10 states, 5 actions",
}
AGENTS = {"agent_greedy": "agent, greedy", "agent_sampled": "agent, sampled"}
# Players that believe in another prior than the tasks': they are published so.
WRONG_PRIOR = "_prior_mean_0"
COLUMNS_OF_PANELS = 3
AGENT_COLUMNS = (
    "cell",
    "seed",
    "greedy",
    "sampled",
    "reference on the same tasks",
    "share of it, greedy",
    "RL² as published",
    "SNAIL as published",
    "bar",
    "reached",
    "env steps",
    "training",
)


def players_of(row: Row) -> list[str]:
    """The players that were measured for a row, in the order of its columns; the reference last."""
    measured = [name.removesuffix("_half_width") for name in row if name.endswith("_half_width")]
    return [name for name in measured if row[name]]


def figure_text(row: Row, player: str) -> str:
    """A mean return with its interval."""
    value, half_width = float(row[player]), float(row[f"{player}_half_width"])
    decimals = 3 if half_width < 0.1 else 2 if half_width < 1 else 1
    return f"{value:.{decimals}f} ± {half_width:.{decimals}f}"


def size_text(cell: Cell) -> str:
    """The sizes of a cell, as the paper writes them."""
    return ", ".join(
        f"{letter}={size}" for letter, size in zip("nk", cell.sizes.values(), strict=False)
    )


def steps_text(row: Row) -> str:
    """How far the training went."""
    steps, total = int(row["env_steps"]), int(row["total_env_steps"])
    millions = f"{steps / 1e6:.1f} M"
    if started_from := row.get("started_from"):
        millions += f" from {Path(started_from).stem}"
    return millions if steps >= total else f"{millions} of {total / 1e6:.1f} M, still training"


def agent_table(cells: Sequence[Cell], rows: Mapping[str, list[Row]]) -> str:
    """One line for each cell and seed: the agent beside what it is measured against."""
    lines = [_line(AGENT_COLUMNS), "|---" * len(AGENT_COLUMNS) + "|"]
    for cell in cells:
        published = [cell.published["rl2"], cell.published["snail"], str(cell.bar)]
        if not rows[cell.experiment]:
            lines.append(_line([size_text(cell), "", "open", "", "", "", *published, "", "", ""]))
        for row in rows[cell.experiment]:
            *_, reference = players_of(row)
            entries = [
                size_text(cell),
                row["seed"],
                *(figure_text(row, name) for name in AGENTS),
                f"{figure_text(row, reference)} ({_words(reference)})",
                f"{float(row['agent_greedy']) / float(row[reference]):.1%}",
                *published,
                row["reached"],
                steps_text(row),
                _duration(row["training_seconds"]),
            ]
            lines.append(_line(entries))
    return "\n".join(lines)


def oracle_table(cells: Sequence[Cell], rows: Mapping[str, list[Row]]) -> str:
    """One line for each cell: every oracle on our tasks, and as published where it was."""
    measured = [(cell, rows[cell.experiment][0]) for cell in cells if rows[cell.experiment]]
    players = list(dict.fromkeys(name for _, row in measured for name in players_of(row)))
    oracles = [name for name in players if name not in AGENTS]
    lines = [_line(["cell", *map(_words, oracles)]), "|---" * (len(oracles) + 1) + "|"]
    for cell, row in measured:
        entries = [size_text(cell)]
        for name in oracles:
            entry = figure_text(row, name) if row[name] else ""
            published = row.get(f"published_{name.removesuffix(WRONG_PRIOR)}")
            as_published = published and f"{name}{WRONG_PRIOR}" not in oracles
            entries.append(f"{entry} ({published})" if entry and as_published else entry)
        lines.append(_line(entries))
    return "\n".join(lines)


def curves_figure(
    cells: Sequence[Cell], rows: Mapping[str, list[Row]], folder: Path
) -> Figure | None:
    """A panel for each cell that has been evaluated; its first seed."""
    shown = [(cell, rows[cell.experiment][0]) for cell in cells if rows[cell.experiment]]
    if not shown:
        return None
    columns = min(COLUMNS_OF_PANELS, len(shown))
    height = -(-len(shown) // columns)
    figure = Figure(figsize=(6.5 * columns, 5.6 * height), dpi=90, layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).flatten()
    for axes, (cell, row) in zip(panels, shown, strict=False):
        _, agents = read_curves(folder / f"{cell.experiment}_seed{row['seed']}.csv")
        _, curves = read_curves(folder / f"{cell.experiment}_oracles.csv")
        oracles = {name: curves[name] for name in curves if not name.endswith(WRONG_PRIOR)}
        labelled = {label: agents[name] for name, label in AGENTS.items()}
        draw_adaptation_curves(axes, labelled, oracles, reference=list(oracles)[-1])
        axes.set_title(f"{size_text(cell)}, seed {row['seed']}", loc="left")
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
    parts, commands = [INTRODUCTION], []
    for table, title in TITLES.items():
        own = [cell for cell in cells.values() if cell.table == table]
        rows: dict[str, list[Row]] = {cell.experiment: [] for cell in own}
        for row in read_rows(folder, table):
            commands.append(row["command"])
            for cell in own:
                if all(int(row[name]) == size for name, size in cell.sizes.items()):
                    rows[cell.experiment].append(row)
        parts += [f"## {title}", f"Total reward of a trial: {SIZES[table]}."]
        parts.append(agent_table(own, rows))
        figure = curves_figure(own, rows, folder / "curves")
        if figure is not None:
            parts += [ORACLES[table], oracle_table(own, rows)]
            figure.savefig(folder / f"{table}.png", metadata={"Software": None})
            parts.append(f"![Adaptation curves]({table}.png)")
    if commands:
        parts += ["## To repeat", REPEAT, "\n".join(["```bash", *commands, "```"])]
    write_atomically(folder / "README.md", "\n\n".join(parts) + "\n")


INTRODUCTION = """\
# Results

Written by `python -m results.render` from `mab.csv` and `mdp.csv`, which \
`python -m results.evaluate` writes; [docs/results.md](../docs/results.md) says how. The last \
checkpoint counts, on held-out tasks that nobody looked at before, 10 000 unless its command says \
otherwise, ± 95 %. The weights are in `checkpoints/`. "Open" is what has not been trained yet."""
ORACLES = {
    "mab": "The oracles on the same tasks, and in brackets as published, on 1000 tasks:",
    "mdp": (
        "The oracles on the same tasks, and in brackets as published, on 1000 tasks. The published "
        "ones take mean rewards to be around 0, where the tasks have 1; they are left out of the "
        "figure. The optimum knows the MDP, as no learner does:"
    ),
}
REPEAT = "Each row again, from its weights and without training:"


def _line(entries: Sequence[str]) -> str:
    return f"| {' | '.join(entries)} |"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _duration(seconds: str) -> str:
    if not seconds:
        return "unknown"
    minutes = int(seconds) / 60
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds} s"


if __name__ == "__main__":
    render(FOLDER)
