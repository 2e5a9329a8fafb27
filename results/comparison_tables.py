"""The tables and curves that compare memories and learners, one for each task."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.cells import Row, read_rows
from results.comparison import Comparison, points_of, steps_to
from results.learners import COMPARISON as LEARNERS
from results.memories import COMPARISON as MEMORIES
from results.memories import TASKS
from results.tables import figure_text, head_lines, table_line
from rl2_lightning.evaluation.plots import BLACK, REFERENCE_COLOURS

BEST_SHARE = 0.95  # of the best memory's return, which the env steps are counted to
SHARES = (0.95, 0.99)  # of the reference's return
MEMORY_COLUMNS = (
    "memory",
    "parameters",
    "agent, greedy",
    "share of the reference",
    f"env steps to {BEST_SHARE:.0%} of the best",
    "collecting",
    "optimising",
)
LEARNER_COLUMNS = (
    "learner",
    "env steps",
    "agent, greedy",
    "share of the reference",
    *(f"env steps to {share:.0%} of the reference" for share in SHARES),
)


def memories_text(folder: Path) -> str:
    """A heading and a table for each task; tasks without a row are left out."""
    rates = {(row["task"], row["memory"]): row for row in read_rows(folder, "memory_speeds")}
    parts = []
    for task, rows in _rows_of_tasks(MEMORIES, folder):
        budget = next(text for text in TASKS[task].overrides if "total_env_steps" in text)
        steps = int(budget.partition("=")[2].replace("_", "")) / 1e6
        parts.append(f"**{task}**, {steps:.0f} M env steps; {_reference(rows)}")
        best = max(float(row["agent_greedy"]) for row in rows.values())
        lines = head_lines(MEMORY_COLUMNS)
        for memory in MEMORIES.names[task]:
            entries = []
            if memory in rows:
                entries = [
                    f"{int(rows[memory]['parameters']):,}",
                    *_return(rows[memory]),
                    steps_to(rows[memory]["curve"], BEST_SHARE * best),
                    *(_ratio(rates, task, memory, part) for part in ("collect", "optimise")),
                ]
            lines.append(_line(memory, entries, len(MEMORY_COLUMNS)))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def learners_text(folder: Path) -> str:
    """A heading and a table for each task; tasks without a row are left out."""
    parts = []
    for task, rows in _rows_of_tasks(LEARNERS, folder):
        parts.append(f"**{task}**; {_reference(rows)}")
        lines = head_lines(LEARNER_COLUMNS)
        for learner in LEARNERS.names[task]:
            entries = []
            if learner in rows:
                row = rows[learner]
                entries = [
                    f"{int(row['env_steps']) / 1e6:.1f} M",
                    *_return(row),
                    *(_steps_to_share(row, share) for share in SHARES),
                ]
            lines.append(_line(learner, entries, len(LEARNER_COLUMNS)))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def learners_figure(folder: Path) -> Figure | None:
    """The greedy return of each learner against env steps, a panel for each task."""
    tasks = list(_rows_of_tasks(LEARNERS, folder))
    if not tasks:
        return None
    figure = Figure(figsize=(6.0 * len(tasks), 4.4), dpi=90, layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, (task, rows) in zip(panels, tasks, strict=True):
        _draw_learners(axes, rows)
        axes.set_title(task, loc="left")
    return figure


def _draw_learners(axes: Axes, rows: Mapping[str, Row]) -> None:
    """Draw one task's curves, and the returns that env steps are counted to."""
    for learner, colour in zip(LEARNERS.names["mab_n10_k5"], REFERENCE_COLOURS, strict=False):
        if learner in rows:
            points = points_of(rows[learner]["curve"])
            axes.plot(
                [steps / 1e6 for steps in points],
                list(points.values()),
                color=colour,
                label=learner.replace("_", " "),
            )
    row = next(iter(rows.values()))
    value = float(row["reference_return"])
    axes.axhline(value, color=BLACK, linestyle="--", label=row["reference"].replace("_", " "))
    if value > 0:
        for share, style in zip(SHARES, (":", "-."), strict=True):
            axes.axhline(
                share * value,
                color=BLACK,
                linestyle=style,
                linewidth=0.8,
                label=f"{share:.0%} of it",
            )
    axes.set_xlabel("env steps of training, millions")
    axes.set_ylabel("mean return of a validation trial, greedy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    axes.legend(frameon=False, fontsize="small")


def _rows_of_tasks(comparison: Comparison, folder: Path) -> Sequence[tuple[str, dict[str, Row]]]:
    """The rows of each task that has any, by what is compared."""
    found = read_rows(folder, comparison.table)
    by_task = {
        task: {row[comparison.column]: row for row in found if row["task"] == task}
        for task in comparison.names
    }
    return [(task, rows) for task, rows in by_task.items() if rows]


def _reference(rows: Mapping[str, Row]) -> str:
    row = next(iter(rows.values()))
    name, value = row["reference"].replace("_", " "), float(row["reference_return"])
    random = float(row["random"])
    return f"the reference ({name}) has {value:.4g}, random play {random:.4g}."


def _return(row: Row) -> tuple[str, str]:
    """A row's return, and its share of the reference's where both are positive."""
    value, reference = float(row["agent_greedy"]), float(row["reference_return"])
    share = f"{value / reference:.1%}" if min(value, reference) > 0 else ""
    return figure_text(value, float(row["agent_greedy_half_width"])), share


def _steps_to_share(row: Row, share: float) -> str:
    reference = float(row["reference_return"])
    return steps_to(row["curve"], share * reference) if reference > 0 else ""


def _line(name: str, entries: Sequence[str], num_columns: int) -> str:
    """A line of a table; one without entries is open."""
    rest = entries or ["open", *[""] * (num_columns - 2)]
    return table_line([name.replace("_", " "), *rest])


def _ratio(rates: Mapping[tuple[str, str], Row], task: str, memory: str, part: str) -> str:
    """The speed of a memory relative to the GRU's."""
    own, gru = rates.get((task, memory)), rates.get((task, "gru"))
    if own is None or gru is None:
        return ""
    return f"{float(own[part]) / float(gru[part]):.2g} ×"
