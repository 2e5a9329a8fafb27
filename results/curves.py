"""Files with adaptation curves of a cell: of its reference players, and of each seed's agent."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import torch

from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.evaluation.adaptation_curve import Curve

COLUMNS = ("player", "episode", "mean", "half_width", "num_tasks")
TRIAL = "trial"  # instead of an episode's number: the sum over all episodes


def write_curves(path: Path, origin: str, curves: Mapping[str, Curve]) -> None:
    """Write curves as CSV with four decimals; the first line describes the tasks."""
    text = StringIO(newline="")
    text.write(f"# {origin}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for player, curve in curves.items():
        episodes = zip(curve.mean.tolist(), curve.half_width.tolist(), strict=True)
        measured = [*enumerate(episodes, 1), (TRIAL, (curve.trial_return, curve.trial_half_width))]
        for episode, (mean, half_width) in measured:
            row = [player, episode, f"{mean:.4f}", f"{half_width:.4f}", curve.num_trials]
            writer.writerow(row)
    write_atomically(path, text.getvalue())


def read_curves(path: Path) -> tuple[str, dict[str, Curve]]:
    """Read a file written by `write_curves`.

    Returns:
        The description of the tasks, and the curves by player.
    """
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in csv.DictReader(lines):
        rows[row["player"]].append(row)
    return first.removeprefix("# "), {name: _curve(own) for name, own in rows.items()}


def _curve(rows: list[dict[str, str]]) -> Curve:
    numbers = torch.tensor(
        [[float(row["mean"]), float(row["half_width"])] for row in rows], dtype=torch.float64
    )
    mean, half_width = numbers[:-1].unbind(1)
    trial_return, trial_half_width = numbers[-1].tolist()
    num_tasks = int(rows[-1]["num_tasks"])
    return Curve(mean, half_width, trial_return, trial_half_width, num_tasks)
