"""Log metrics to a CSV file that a resumed run continues."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from rl2_lightning.callbacks.files import write_atomically

STEP = "step"  # column of the env steps
TEST = "test/"  # prefix of the columns of a test


class MetricsWriter(ExperimentWriter):
    """Lightning's writer, which loses no rows where a run is killed.

    Lightning's own one empties the file when there are new columns, and fills it again.

    Args:
        log_dir: folder of the file.
        columns: those of the file that is continued; None deletes an earlier file.
    """

    def __init__(self, log_dir: str, columns: Sequence[str] | None = None) -> None:
        self._is_continued = columns is not None
        super().__init__(log_dir)
        self.metrics_keys = list(columns or ())

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        table = Path(self.metrics_file_path)
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        write_table(table, fieldnames, rows)

    def _check_log_dir_exists(self) -> None:
        if not self._is_continued:
            super()._check_log_dir_exists()


class CSVMetrics(CSVLogger):
    """Lightning's CSV logger, which keeps the rows of a run that is resumed in its folder."""

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        """The writer, which is made at its first use; other ranks than zero get one without use."""
        if self._experiment is None:
            self._experiment = MetricsWriter(self.log_dir)
        return self._experiment

    def continue_from(self, env_steps: int) -> None:
        """Keep the rows of the training so far; later ones and those of tests will be repeated.

        Only rank zero may call it.

        Args:
            env_steps: number of env steps of the checkpoint that the run is resumed from.
        """
        table = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
        if not table.exists():
            return
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            kept = [row for row in reader if _is_kept(row, env_steps)]
        write_table(table, columns, kept)
        self._experiment = MetricsWriter(self.log_dir, columns)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _is_kept(row: dict[str, Any], env_steps: int) -> bool:
    # A killed run may have left an incomplete row.
    if None in row or None in row.values() or not row.get(STEP, "").isdigit():
        return False
    is_test = any(value for name, value in row.items() if name.startswith(TEST))
    return int(row[STEP]) <= env_steps and not is_test
