"""The cells of the tables, their published figures, and their measured rows."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from results.bars import GYMNASIUM, WORLDS, Bar, Return
from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.errors import UserError

FOLDER = Path(__file__).parent
PUBLISHED = FOLDER / "published"
CONFIGS = FOLDER.parent / "configs"
Row = dict[str, str]
HALF_WIDTH = "_half_width"  # suffix of a column's name: 1.96 standard errors of the column without
MEASURE = "measure_"  # prefix of a column's name: not a player's return


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        table: "mab" or "mdp" for the paper's tables, "gymnasium" for environments of Gymnasium's,
            or "worlds" for the other families.
        name: name of the cell, and of the experiment that comes nearest to its bar.
        place: values that distinguish it from the other cells of its table, by column.
        published: published figures of other players, by column.
        bar: bar that the last checkpoint should reach.
    """

    table: str
    name: str
    place: Mapping[str, str]
    published: Mapping[str, str]
    bar: Bar

    @property
    def experiments(self) -> list[str]:
        """The experiments of this cell: its own, and `<name>_<memory>` or `<name>_<learner>`."""
        parts = [
            path.stem
            for group in ("memory", "learner")
            for path in sorted((CONFIGS / group).glob("*.yaml"))
        ]
        others = (f"{self.name}_{part}" for part in parts)
        return [self.name, *(name for name in others if experiment_file(name).exists())]

    def is_of(self, row: Row) -> bool:
        """Whether a row of its table belongs to this cell."""
        return all(row[name] == value for name, value in self.place.items())


SIZES = {"mab": ("num_pulls", "num_arms"), "mdp": ("n",)}


def experiment_file(name: str) -> Path:
    """The file of an experiment."""
    return CONFIGS / "experiment" / f"{name}.yaml"


def all_cells() -> dict[str, Cell]:
    """The cells of all tables by name, those of the paper first."""
    published = {table: _read(PUBLISHED / f"{table}.csv") for table in SIZES}
    cells = {}
    for row in _read(PUBLISHED / "bars.csv"):
        table, name = row["table"], row["cell"]
        numbers = [part.lstrip("nk") for part in name.split("_")[1:]]
        sizes = dict(zip(SIZES[table], numbers, strict=True))
        (figures,) = (
            {column: value for column, value in line.items() if column not in sizes}
            for line in published[table]
            if all(line[column] == size for column, size in sizes.items())
        )
        cells[name] = Cell(table, name, sizes, figures, Return(float(row["bar"])))
    for table, bars in {"worlds": WORLDS, "gymnasium": GYMNASIUM}.items():
        known = {row.pop("cell"): row for row in _read(PUBLISHED / f"{table}.csv")}
        for name, bar in bars.items():
            cells[name] = Cell(table, name, {"cell": name}, known.get(name, {}), bar)
    return cells


def find_cell(experiment: str) -> Cell:
    """The cell that an experiment trains.

    Raises:
        UserError: the experiment is in no table.
    """
    cells = {name: cell for cell in all_cells().values() for name in cell.experiments}
    if experiment not in cells:
        raise UserError(f"experiment={experiment} is in no table: use one of {', '.join(cells)}")
    return cells[experiment]


def read_rows(folder: Path, table: str) -> list[Row]:
    """The measured rows of a table from its file; none if there is no file."""
    return _read(folder / f"{table}.csv")


def require_no_loss(folder: Path, cell: Cell, name: str, num_tasks: int) -> None:
    """Check that a row does not replace one that was measured on more tasks.

    Raises:
        UserError: it would.
    """
    for row in read_rows(folder, cell.table):
        if row["name"] == name and int(row["num_tasks"]) > num_tasks:
            raise UserError(
                f"evaluation.test_tasks={num_tasks} would replace the row {name} in "
                f"{cell.table}.csv, which has {row['num_tasks']} tasks: leave it out, or remove "
                "that row first"
            )


def write_row(folder: Path, cell: Cell, row: Row) -> None:
    """Write a row into its table, replacing that of the same name."""
    cells = [one for one in all_cells().values() if one.table == cell.table]

    def place(one: Row) -> tuple[int, int, str, int, str]:
        index, its = next((i, other) for i, other in enumerate(cells) if other.is_of(one))
        experiment = its.experiments.index(one["experiment"])
        return index, experiment, one["trained_on"], int(one["seed"]), one["name"]

    rows = [one for one in read_rows(folder, cell.table) if one["name"] != row["name"]]
    rows = sorted([*rows, row], key=place)
    # Cells have different reference players: columns are in the order of first appearance.
    names = dict.fromkeys(name for one in rows for name in one if name != "command")
    columns = [*names, "command"]
    text = StringIO(newline="")
    text.write("# Written by `python -m results.evaluate`; docs/results.md explains the columns.\n")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / f"{cell.table}.csv", text.getvalue())


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
