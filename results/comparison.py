"""Train and test what is compared on one task, and write its row."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from results.cells import CONFIGS, FOLDER, Row, read_rows
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.config import register_schemas
from rl2_lightning.errors import UserError
from rl2_lightning.parts import leave_out_foreign
from rl2_lightning.run_folder import LAST_CHECKPOINT, SUMMARY
from rl2_lightning.session import quieten

RUNS = Path("outputs")
IN_A_ROW = 3  # a single validation is noisy


@dataclass(frozen=True)
class Comparison:
    """What is compared, on which tasks.

    Attributes:
        table: name of the table, of the module with the command, and of the folder of the runs.
        column: what is compared, in the singular.
        names: what is compared on each task, in the order of the table.
        own_overrides: experiment and settings of a training, by task and name.
        num_validations: validations of a training, the points of its curve.
    """

    table: str
    column: str
    names: Mapping[str, Sequence[str]]
    own_overrides: Callable[[str, str], list[str]]
    num_validations: int

    def overrides(self, task: str, name: str) -> list[str]:
        """The command line of a training, without its folder.

        Raises:
            UserError: there is no such task, or it is not compared on this one.
        """
        if task not in self.names:
            raise UserError(f"task {task} is not compared: use one of {', '.join(self.names)}")
        if name not in self.names[task]:
            known = ", ".join(self.names[task])
            raise UserError(f"{self.column} {name} is not compared on {task}: use one of {known}")
        return self.own_overrides(task, name)

    def compose(self, task: str, name: str, folder: Path, *more: str) -> DictConfig:
        """The composed config of a training."""
        given = [*self.overrides(task, name), *more]
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose("train", [f"output_dir={folder}", *given])
        with open_dict(cfg):
            leave_out_foreign(cfg, given)
        return cfg

    def train(self, task: str, name: str, runs: Path = RUNS) -> Path:
        """Train and test, from the last checkpoint if there is one.

        Returns:
            The folder of the run.

        Raises:
            UserError: the training ended with an error.
        """
        folder = runs / self.table / task / name
        if (folder / SUMMARY).exists():
            return folder
        num_iterations = build_data(self.compose(task, name, folder)).plan.num_iterations
        given = self.overrides(task, name)
        if (folder / LAST_CHECKPOINT).exists():
            given = [f"ckpt_path={folder}"]
        command = [sys.executable, "-m", "rl2_lightning", *given, f"hydra.run.dir={folder}"]
        interval = -(-num_iterations // self.num_validations)
        command.append(f"trainer.check_val_every_n_epoch={interval}")
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"the training in {folder} has failed: see its error")
        return folder

    def row(self, task: str, name: str, folder: Path) -> Row:
        """The figures of a finished run."""
        summary = json.loads((folder / SUMMARY).read_text())
        greedy = summary["agent"]["greedy"]
        cfg = self.compose(task, name, folder)
        agent = build_learner(cfg, build_data(cfg)).agent
        references = {player: one["trial_return"] for player, one in summary["references"].items()}
        *_, reference = references
        return {
            "task": task,
            self.column: name,
            "parameters": str(sum(weight.numel() for weight in agent.parameters())),
            "env_steps": str(summary["env_steps"]),
            "agent_greedy": f"{greedy['trial_return']:.4f}",
            "agent_greedy_half_width": f"{greedy['trial_half_width']:.4f}",
            "random": f"{references['random']:.4f}",
            "reference": reference,
            "reference_return": f"{references[reference]:.4f}",
            **validations(folder, reference),
            "command": f"python -m results.{self.table} {task} {name}",
        }

    def write_rows(self, folder: Path, new: Sequence[Row], table: str | None = None) -> None:
        """Write rows into a table, replacing those of the same task and name.

        Args:
            folder: folder of the table.
            new: the rows.
            table: name of the table, if it is not that of the comparison.
        """
        table = table or self.table
        tasks = list(self.names)

        def place(row: Mapping[str, str]) -> tuple[int, int]:
            names = self.names[row["task"]]
            return tasks.index(row["task"]), names.index(row[self.column])

        replaced = {place(row) for row in new}
        rows = [*(row for row in read_rows(folder, table) if place(row) not in replaced), *new]
        text = StringIO(newline="")
        writer = csv.DictWriter(text, list(new[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=place))
        write_atomically(folder / f"{table}.csv", text.getvalue())

    def main(self, speeds: Callable[[str], list[Row]] | None = None) -> None:
        """Train what the command line names, and print its row.

        Args:
            speeds: measures the speeds on a task, for `speed` in place of a name.
        """
        quieten()
        register_schemas()
        with one_line_errors():
            if len(sys.argv) != 3:
                task, names = next(iter(self.names.items()))
                raise UserError(
                    f"give a task and a {self.column}, as in python -m results.{self.table} "
                    f"{task} {names[0]}"
                )
            _, task, name = sys.argv
            if speeds is not None and name == "speed":
                rows = speeds(task)
                self.write_rows(FOLDER, rows, f"{self.column}_speeds")
            else:
                rows = [self.row(task, name, self.train(task, name))]
                self.write_rows(FOLDER, rows)
        for row in rows:
            print(", ".join(f"{name} {value}" for name, value in row.items() if name != "curve"))


def validations(folder: Path, reference: str) -> Row:
    """The greedy returns of a run's validations, and the reference's on the same tasks.

    Args:
        folder: folder of the run.
        reference: name of the reference player.

    Returns:
        `curve`: env steps and return of each, as `steps:return` with spaces between; and
        `validation_reference`.
    """
    returns: dict[str, dict[int, float]] = {reference: {}, "agent_greedy": {}}
    with (folder / "adaptation_curve.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["stage"] == "validation" and row["player"] in returns:
                own, steps = returns[row["player"]], int(row["env_steps"])
                own[steps] = own.get(steps, 0.0) + float(row["mean"])
    points = sorted(returns["agent_greedy"].items())
    return {
        "validation_reference": f"{sum(returns[reference].values()):.4f}",
        "curve": " ".join(f"{steps}:{value:.4f}" for steps, value in points),
    }


def points_of(curve: str) -> dict[int, float]:
    """The returns of a curve's text, by env steps."""
    pairs = (point.split(":") for point in curve.split())
    return {int(steps): float(value) for steps, value in pairs}


def steps_to(curve: str, value: float) -> str:
    """The env steps of the first of `IN_A_ROW` validations that reach a return, as text."""
    points = list(points_of(curve).items())
    for index, (steps, _) in enumerate(points):
        following = points[index : index + IN_A_ROW]
        if all(reached >= value for _, reached in following):
            return f"{steps / 1e6:.2f} M"
    return "not reached"
