"""Compare runs: `python -m rl2_lightning.compare runs=outputs/mab_n10_k5,outputs/grid_navi`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich import get_console

from rl2_lightning.arguments import REQUIRED, read_arguments
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.errors import UserError
from rl2_lightning.run_folder import CONFIG

ARGUMENTS = {
    "runs": REQUIRED,  # folders, with commas between; each holds runs that differ in their seeds
    "metric": "train/return",  # what they have logged
    "path": "runs.png",  # the picture to write
}


def runs_below(folder: Path) -> list[Path]:
    """The folders of the runs in a folder, which may be one itself.

    Raises:
        UserError: there is none.
    """
    found = sorted(path.parent for path in folder.rglob(CONFIG))
    if not found:
        raise UserError(f"runs={folder} has no run: give folders of runs, or of several runs each")
    return found


def compare(folders: Sequence[Path], metric: str, path: Path) -> None:
    """Draw the mean of the runs in each folder, with its interval, against env steps and time.

    Args:
        folders: folders of runs that differ only in their seeds.
        metric: name of what they have logged to TensorBoard.
        path: the picture, which must not exist.

    Raises:
        UserError: a folder has no run, a run has no log of the metric, or the picture exists.
    """
    from matplotlib.image import imsave

    from rl2_lightning.evaluation.images import render
    from rl2_lightning.evaluation.run_curves import read_run, runs_figure

    if path.exists():
        raise UserError(f"path={path} exists: give another one, or remove it")
    groups = {
        str(folder): [read_run(run, metric) for run in runs_below(folder)] for folder in folders
    }
    imsave(path, render(runs_figure(groups, metric)))


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        given = read_arguments(sys.argv[1:], ARGUMENTS)
        path = Path(given["path"])
        compare([Path(one) for one in given["runs"].split(",")], given["metric"], path)
        get_console().print(str(path), soft_wrap=True)


if __name__ == "__main__":
    main()
