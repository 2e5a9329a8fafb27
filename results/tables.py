"""Render the tables as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from results.cells import HALF_WIDTH, MEASURE, Cell, Row
from results.curves import read_curves
from rl2_lightning.evaluation.adaptation_curve import Curve

AGENTS = {"agent_greedy": "agent, greedy", "agent_sampled": "agent, sampled"}
# Suffix of players with another prior than the tasks', as published.
WRONG_PRIOR = "_prior_mean_0"
# It knows the task, which no learner does, and so is no yardstick for learners.
TOLD_THE_TASK = "optimal_policy"
AGENT_COLUMNS = ("cell", "agent", "seed", *AGENTS.values())
LAST_COLUMNS = ("bar", "reached", "env steps", "training")
PUBLISHED = {"rl2": "RL² as published", "snail": "SNAIL as published"}
EPISODES = (1, 2)  # a comparison of their returns shows whether an agent adapts
Rows = Mapping[str, Sequence[Row]]  # by cell


def players_of(row: Row) -> list[str]:
    """The players that were measured for a row, in the order of its table's columns."""
    measured = [name.removesuffix(HALF_WIDTH) for name in row if name.endswith(HALF_WIDTH)]
    return [name for name in measured if row[name] and not name.startswith(MEASURE)]


def cell_text(cell: Cell) -> str:
    """The sizes of a cell in the paper's notation; else its name."""
    if "cell" in cell.place:
        return cell.name
    return ", ".join(
        f"{letter}={size}" for letter, size in zip("nk", cell.place.values(), strict=False)
    )


def best_learner(row: Row) -> str:
    """The best of the players that do not know the task."""
    learners = [name for name in players_of(row) if name not in (*AGENTS, TOLD_THE_TASK)]
    return max(learners, key=lambda name: float(row[name]))


def paper_table(cells: Sequence[Cell], rows: Rows) -> str:
    """One line for each cell and seed: the agent and the best player that learns."""
    columns = (
        *AGENT_COLUMNS,
        "best player that learns",
        "share of it, greedy",
        *PUBLISHED.values(),
        *LAST_COLUMNS,
    )
    lines = head_lines(columns)
    for cell in cells:
        published = [cell.published[player] for player in PUBLISHED]
        if not rows[cell.name]:
            lines.append(_open(cell, columns, [*published, str(cell.bar)]))
        for row in rows[cell.name]:
            measured = _measured(cell, row, best_learner(row))
            lines.append(table_line([*measured, *published, *_last(row)]))
    return "\n".join(lines)


def worlds_table(cells: Sequence[Cell], rows: Rows, curves: Path) -> str:
    """One line for each cell and seed: the agent, the reference, and the first episodes.

    Args:
        cells: cells of the table.
        rows: rows of each cell.
        curves: folder of the curves.
    """
    episodes = [f"episode {number}" for number in EPISODES]
    published = ["RL² as published"] if any(cell.published for cell in cells) else []
    beside = ("reference", "share of it, greedy", *episodes, *published)
    columns = (*AGENT_COLUMNS, *beside, *LAST_COLUMNS)
    lines = head_lines(columns)
    for cell in cells:
        known = [cell.published.get("rl2", "") for _ in published]
        if not rows[cell.name]:
            lines.append(_open(cell, columns, ["", "", *known, str(cell.bar)]))
        for row in rows[cell.name]:
            _, agents = read_curves(curves / f"{row['name']}.csv")
            returns = [_episode(agents["agent_greedy"], number) for number in EPISODES]
            *_, reference = read_curves(curves / f"{cell.name}_oracles.csv")[1]
            measured = _measured(cell, row, reference)
            lines.append(table_line([*measured, *returns, *known, *_last(row)]))
    return "\n".join(lines)


def players_table(cells: Sequence[Cell], rows: Rows) -> str:
    """One line for each reference player: our figures, and the published ones in brackets."""
    measured = {cell_text(cell): rows[cell.name][0] for cell in cells if rows[cell.name]}
    lines = head_lines(["player", *measured])
    for name in _reference_players(measured.values()):
        base = name.removesuffix(WRONG_PRIOR)
        entries = [_words(base) + (", as published" if base != name else "")]
        for row in measured.values():
            published = row.get(f"published_{base}")
            as_published = published and not row.get(f"{name}{WRONG_PRIOR}")
            entry = _row_figure(row, name) if row.get(name) else ""
            entries.append(f"{entry} ({published})" if entry and as_published else entry)
        lines.append(table_line(entries))
    return "\n".join(lines)


def _reference_players(rows: Iterable[Row]) -> list[str]:
    """The reference players, each followed by itself with the other prior, the optimum last."""
    names = [name for row in rows for name in players_of(row) if name not in AGENTS]
    bases = dict.fromkeys(name.removesuffix(WRONG_PRIOR) for name in names)
    ordered = [name for base in bases for name in (base, f"{base}{WRONG_PRIOR}")]
    return sorted(
        (name for name in ordered if name in names), key=lambda name: name == TOLD_THE_TASK
    )


def measures_table(cells: Sequence[Cell], rows: Rows) -> str:
    """One line for each figure of a family's own analysis of an agent; empty if there is none."""
    head = head_lines(["cell", "agent", "seed", "figure", *AGENTS.values()])
    lines = list(head)
    for cell in cells:
        for row in rows[cell.name]:
            modes = [agent.removeprefix("agent") for agent in AGENTS]  # "_greedy" and "_sampled"
            names = [
                name.removesuffix(modes[0])
                for name in row
                if name.startswith(MEASURE) and name.endswith(modes[0])
            ]
            for name in names:
                figures = [_measure(row, f"{name}{mode}") for mode in modes]
                if any(figures):
                    words = _words(name.removeprefix(MEASURE))
                    lines.append(
                        table_line([cell_text(cell), row["agent"], row["seed"], words, *figures])
                    )
    return "" if lines == head else "\n".join(lines)


def _measure(row: Row, name: str) -> str:
    return _row_figure(row, name) if row[name] else ""


def _measured(cell: Cell, row: Row, reference: str) -> list[str]:
    """Cell and seed, the agent's returns, the reference's, and the agent's share of it."""
    returns = [_row_figure(row, name) for name in AGENTS]
    agent, optimum = float(row["agent_greedy"]), float(row[reference])
    # A share of a negative return is meaningless, and one of a random player's of little use.
    is_shown = min(agent, optimum) > 0 and reference != "random"
    share = f"{agent / optimum:.1%}" if is_shown else ""
    beside = f"{_row_figure(row, reference)} ({_words(reference)})"
    return [cell_text(cell), row["agent"], row["seed"], *returns, beside, share]


def _last(row: Row) -> list[str]:
    return [row["bar"], row["reached"], _steps(row), _duration(row["training_seconds"])]


def _open(cell: Cell, columns: Sequence[str], known: Sequence[str]) -> str:
    """The line of a cell that has not been trained yet."""
    nothing = [""] * len(LAST_COLUMNS[1:])
    start = [cell_text(cell), "", "", "open"]
    return table_line(
        [*start, *[""] * (len(columns) - 4 - len(known) - len(nothing)), *known, *nothing]
    )


def _row_figure(row: Row, player: str) -> str:
    return figure_text(float(row[player]), float(row[f"{player}{HALF_WIDTH}"]))


def _episode(curve: Curve, number: int) -> str:
    """The mean return of an episode, if trials have as many."""
    if number > len(curve.mean):
        return ""
    return figure_text(curve.mean[number - 1].item(), curve.half_width[number - 1].item())


def figure_text(value: float, half_width: float) -> str:
    """A mean return with its interval."""
    decimals = 3 if half_width < 0.1 else 2 if half_width < 1 else 1
    return f"{value:.{decimals}f} ± {half_width:.{decimals}f}"


def _steps(row: Row) -> str:
    """The progress of the training in env steps."""
    steps, total = int(row["env_steps"]), int(row["total_env_steps"])
    text = f"{steps / 1e6:.1f} M"
    if steps < total:
        text += f" of at most {total / 1e6:.1f} M, not finished"
    if started_from := row.get("started_from"):
        text += f", from {Path(started_from).stem}"
    if trained_on := row.get("trained_on"):
        text += f", on {trained_on}"
    return text


def _duration(seconds: str) -> str:
    if not seconds:
        return "unknown"
    minutes = int(seconds) / 60
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds} s"


def head_lines(columns: Sequence[str]) -> list[str]:
    """The lines of a table above its entries."""
    return [table_line(columns), "|---" * len(columns) + "|"]


def table_line(entries: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(entries)} |"


def _words(name: str) -> str:
    return name.replace("_", " ")
