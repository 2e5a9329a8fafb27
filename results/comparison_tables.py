"""The tables and curves that compare memories and learners, one for each task."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.cells import Row, read_rows
from results.comparison import Comparison, points_of, steps_to
from results.learners import COMPARISON as LEARNERS
from results.learners import LEARNERS as ALL_LEARNERS
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

    def heading(task: str) -> str:
        budget = next(text for text in TASKS[task].overrides if "total_env_steps" in text)
        return f", {int(budget.partition('=')[2].replace('_', '')) / 1e6:.0f} M env steps"

    def entries(row: Row, rows: Mapping[str, Row]) -> list[str]:
        best = max(float(one["agent_greedy"]) for one in rows.values())
        return [
            f"{int(row['parameters']):,}",
            *_return(row),
            _steps_to_share(row, BEST_SHARE * best / float(row["reference_return"])),
            *(_ratio(rates, row, part) for part in ("collect", "optimise")),
        ]

    return _tables(MEMORIES, MEMORY_COLUMNS, folder, heading, entries)


def learners_text(folder: Path) -> str:
    """A heading and a table for each task; tasks without a row are left out."""

    def entries(row: Row, _: Mapping[str, Row]) -> list[str]:
        return [
            f"{int(row['env_steps']) / 1e6:.1f} M",
            *_return(row),
            *(_steps_to_share(row, share) for share in SHARES),
        ]

    return _tables(LEARNERS, LEARNER_COLUMNS, folder, lambda task: "", entries)


def _tables(
    comparison: Comparison,
    columns: Sequence[str],
    folder: Path,
    heading: Callable[[str], str],
    entries: Callable[[Row, Mapping[str, Row]], list[str]],
) -> str:
    """A heading and a table for each task that has a row; what has none is open."""
    parts = []
    for task, rows in _rows_of_tasks(comparison, folder):
        parts.append(f"**{task}**{heading(task)}; {_reference(rows)}")
        lines = head_lines(columns)
        for name in comparison.names[task]:
            rest = ["open", *[""] * (len(columns) - 2)]
            if name in rows:
                rest = entries(rows[name], rows)
            lines.append(table_line([name.replace("_", " "), *rest]))
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
    for learner, colour in zip(ALL_LEARNERS, REFERENCE_COLOURS, strict=False):
        if learner in rows:
            points = points_of(rows[learner]["curve"])
            axes.plot(
                [steps / 1e6 for steps in points],
                list(points.values()),
                color=colour,
                label=learner.replace("_", " "),
            )
    row = next(iter(rows.values()))
    value = float(row["validation_reference"])
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
    """The env steps until validations reach a share of the reference's return on their tasks."""
    reference = float(row["validation_reference"])
    return steps_to(row["curve"], share * reference) if reference > 0 else ""


def _ratio(rates: Mapping[tuple[str, str], Row], row: Row, part: str) -> str:
    """The speed of a memory relative to the GRU's."""
    own, gru = rates.get((row["task"], row["memory"])), rates.get((row["task"], "gru"))
    if own is None or gru is None:
        return ""
    return f"{float(own[part]) / float(gru[part]):.2g} ×"
