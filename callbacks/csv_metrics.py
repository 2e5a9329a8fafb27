"""Log metrics to a CSV file that a resumed run continues."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from rl2_lightning.callbacks.files import write_atomically

STEP = "step"  # column of the env steps
TEST = "test/"  # prefix of the columns of a test


class CSVMetrics(CSVLogger):
    """Lightning's CSV logger, which keeps the rows of a run that is resumed in its folder.

    Lightning's own one deletes an earlier file.
    """

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
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(kept)
        unfinished = table.with_name(".metrics.csv.kept")
        write_atomically(unfinished, text.getvalue())
        experiment = self.experiment  # which deletes the earlier file
        unfinished.replace(table)
        experiment.metrics_keys = columns


def _is_kept(row: dict[str, Any], env_steps: int) -> bool:
    # A killed run may have left an incomplete row.
    if None in row or None in row.values() or not row.get(STEP, "").isdigit():
        return False
    is_test = any(value for name, value in row.items() if name.startswith(TEST))
    return int(row[STEP]) <= env_steps and not is_test
