"""The tables that compare the memories, one for each task."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from results.cells import Row, read_rows
from results.memories import TASKS, memories_of
from results.tables import figure_text, head_lines, table_line

SHARE = 0.95  # of the best return, which the env steps are counted to
COLUMNS = (
    "memory",
    "parameters",
    "agent, greedy",
    "share of the reference",
    f"env steps to {SHARE:.0%} of the best",
    "collecting",
    "optimising",
)


def memories_text(folder: Path) -> str:
    """A heading and a table for each task; tasks without a row are left out."""
    rows = read_rows(folder, "memories")
    speeds = read_rows(folder, "memory_speeds")
    parts = []
    for task, settings in TASKS.items():
        own = [row for row in rows if row["task"] == task]
        if own:
            budget = next(text for text in settings.overrides if "total_env_steps" in text)
            steps = int(budget.partition("=")[2].replace("_", "")) / 1e6
            reference, value = own[0]["reference"].replace("_", " "), own[0]["reference_return"]
            parts.append(
                f"**{task}**, {steps:.0f} M env steps; the reference ({reference}) has "
                f"{float(value):.4g}, random play {float(own[0]['random']):.4g}."
            )
            parts.append(task_table(task, own, [row for row in speeds if row["task"] == task]))
    return "\n\n".join(parts)


def task_table(task: str, rows: Sequence[Row], speeds: Sequence[Row]) -> str:
    """One line for each memory; memories without a row are open."""
    by_memory = {row["memory"]: row for row in rows}
    rates = {row["memory"]: row for row in speeds}
    best = max(float(row["agent_greedy"]) for row in rows)
    lines = head_lines(COLUMNS)
    for memory in memories_of(task):
        row = by_memory.get(memory)
        words = memory.replace("_", " ")
        if row is None:
            lines.append(table_line([words, "open", *[""] * (len(COLUMNS) - 2)]))
            continue
        value, reference = float(row["agent_greedy"]), float(row["reference_return"])
        entries = [
            words,
            f"{int(row['parameters']):,}",
            figure_text(value, float(row["agent_greedy_half_width"])),
            f"{value / reference:.1%}" if min(value, reference) > 0 else "",
            steps_to(row["curve"], SHARE * best),
        ]
        entries += [_ratio(rates, memory, part) for part in ("collect", "optimise")]
        lines.append(table_line(entries))
    return "\n".join(lines)


def steps_to(curve: str, value: float) -> str:
    """The env steps of the first validation that reaches a return, as text."""
    for point in curve.split():
        steps, reached = point.split(":")
        if float(reached) >= value:
            return f"{int(steps) / 1e6:.2f} M"
    return "not reached"


def _ratio(rates: Mapping[str, Row], memory: str, part: str) -> str:
    """The speed of a memory relative to the GRU's."""
    if memory not in rates or "gru" not in rates:
        return ""
    return f"{float(rates[memory][part]) / float(rates['gru'][part]):.2g} ×"
