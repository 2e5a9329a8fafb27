"""Compare the memories: train and test one on one task, with the task's budget.

`python -m results.memories mdp_n10 snail` trains in `outputs/memories/mdp_n10/snail`, continues a
run that was stopped there, and writes its row into `results/memories.csv`.
`python -m results.memories mdp_n10 speed` measures how fast each memory collects and optimises.
"""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from benchmarks.throughput import IterationRates, fit
from results.cells import CONFIGS, FOLDER, Row, read_rows
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.callbacks.files import write_atomically
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.config import register_schemas
from rl2_lightning.errors import UserError
from rl2_lightning.parts import leave_out_foreign
from rl2_lightning.run_folder import LAST_CHECKPOINT, SUMMARY
from rl2_lightning.session import quieten

RUNS = Path("outputs/memories")
NUM_VALIDATIONS = 25  # of a training
NUM_ITERATIONS = 7  # of a measurement of speed, of which the first two do not count


@dataclass(frozen=True)
class Task:
    """What all memories are trained on.

    Attributes:
        overrides: experiment and settings, the same for all memories.
        length: env steps of a trial.
        has_queries: whether action queries are compared, too.
    """

    overrides: tuple[str, ...]
    length: int
    has_queries: bool = False


TASKS: Mapping[str, Task] = {
    "mab_n10_k5": Task(
        ("experiment=mab_n10_k5", "collection.total_env_steps=1_000_000"), 10, has_queries=True
    ),
    "mab_n100_k10": Task(
        (
            "experiment=mab_n100_k10_lstm",
            "collection.uses_curriculum=false",
            "collection.num_trials=256",
            "collection.total_env_steps=2_000_000",
        ),
        100,
        has_queries=True,
    ),
    "mdp_n10": Task(("experiment=mdp_n10", "collection.total_env_steps=2_000_000"), 100),
    "grid_navi": Task(("experiment=grid_navi", "collection.total_env_steps=2_000_000"), 60),
    "memory_planning_3x3": Task(
        ("experiment=memory_planning_3x3", "collection.total_env_steps=2_000_000"), 100
    ),
    "recall_gap500": Task(
        (
            "experiment=recall_gap500",
            "collection.num_trials=64",
            "collection.total_env_steps=2_000_000",
        ),
        502,
    ),
}
VECTOR = ("memory.hidden_size=128", "agent.encoder_hidden_sizes=[128]", "memory.max_timescale={}")
MEMORIES: Mapping[str, tuple[str, ...]] = {
    "gru": ("memory=gru", *VECTOR),
    "lstm": ("memory=lstm", *VECTOR),
    "min_gru": ("memory=min_gru", *VECTOR),
    "matrix": (
        "memory=matrix",
        "memory.hidden_size=64",
        "memory.num_layers=2",
        "agent.encoder_hidden_sizes=[]",
        "memory.max_timescale={}",
    ),
    "snail": ("memory=snail", "memory.max_steps={}", "agent.encoder_hidden_sizes=[]"),
    "gated_transformer": (
        "memory=gated_transformer",
        "memory.context={}",
        "memory.hidden_size=64",
        "agent.encoder_hidden_sizes=[]",
    ),
    "episodic_planning": (
        "memory=episodic_planning",
        "memory.max_transitions={}",
        "memory.hidden_size=128",
        "agent.encoder_hidden_sizes=[128]",
    ),
}
QUERIES = "action_queries"
ASKING = (
    "memory=matrix",
    "memory.num_layers=0",
    "memory.hidden_size=16",
    "agent.encoder_hidden_sizes=[]",
    "agent.policy_head=action_queries",
    "agent.policy_hidden_sizes=[64,64]",
    "agent.inputs=[observation,previous_reward,previous_done]",
)


def memories_of(task: str) -> list[str]:
    """The memories that are compared on a task."""
    return [*MEMORIES, *([QUERIES] if TASKS[task].has_queries else [])]


def overrides_of(task: str, memory: str) -> list[str]:
    """The command line of a training, without its folder.

    Raises:
        UserError: there is no such task, or no such memory for it.
    """
    if task not in TASKS:
        raise UserError(f"task {task} is not compared: use one of {', '.join(TASKS)}")
    if memory not in memories_of(task):
        known = ", ".join(memories_of(task))
        raise UserError(f"memory {memory} is not compared on {task}: use one of {known}")
    own = ASKING if memory == QUERIES else MEMORIES[memory]
    return [*TASKS[task].overrides, *(text.format(TASKS[task].length) for text in own)]


def compose_run(task: str, memory: str, folder: Path, *more: str) -> DictConfig:
    """The composed config of a training."""
    given = [*overrides_of(task, memory), *more]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"output_dir={folder}", "logger=csv", *given])
    with open_dict(cfg):
        leave_out_foreign(cfg, given)
    return cfg


def train(task: str, memory: str, runs: Path = RUNS) -> Path:
    """Train and test a memory, from its last checkpoint if there is one.

    Returns:
        The folder of the run.

    Raises:
        UserError: the training ended with an error.
    """
    folder = runs / task / memory
    if (folder / SUMMARY).exists():
        return folder
    cfg = compose_run(task, memory, folder)
    num_iterations = build_data(cfg).plan.num_iterations
    given = overrides_of(task, memory)
    if (folder / LAST_CHECKPOINT).exists():
        given = [f"ckpt_path={folder}"]
    command = [sys.executable, "-m", "rl2_lightning.train", *given, f"hydra.run.dir={folder}"]
    command += [
        "logger=csv",
        f"trainer.check_val_every_n_epoch={-(-num_iterations // NUM_VALIDATIONS)}",
    ]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"the training in {folder} has failed: see its error")
    return folder


def row_of(task: str, memory: str, folder: Path) -> Row:
    """The figures of a finished run."""
    summary = json.loads((folder / SUMMARY).read_text())
    greedy = summary["agent"]["greedy"]
    cfg = compose_run(task, memory, folder)
    agent = build_learner(cfg, build_data(cfg)).agent
    references = {name: one["trial_return"] for name, one in summary["references"].items()}
    *_, reference = references
    return {
        "task": task,
        "memory": memory,
        "parameters": str(sum(weight.numel() for weight in agent.parameters())),
        "env_steps": str(summary["env_steps"]),
        "agent_greedy": f"{greedy['trial_return']:.4f}",
        "agent_greedy_half_width": f"{greedy['trial_half_width']:.4f}",
        "random": f"{references['random']:.4f}",
        "reference": reference,
        "reference_return": f"{references[reference]:.4f}",
        "curve": validation_curve(folder),
        "command": f"python -m results.memories {task} {memory}",
    }


def validation_curve(folder: Path) -> str:
    """Env steps and greedy return of each validation, as `steps:return` with spaces between."""
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("validation/return_greedy")]
    points = {int(row["step"]): float(row["validation/return_greedy"]) for row in rows}
    return " ".join(f"{step}:{value:.4f}" for step, value in sorted(points.items()))


def speeds_of(task: str) -> list[Row]:
    """How fast each memory collects and optimises, measured one after the other."""
    rows = []
    for memory in memories_of(task):
        with tempfile.TemporaryDirectory() as folder:
            more = (f"trainer.max_epochs={NUM_ITERATIONS}", "trainer.check_val_every_n_epoch=1000")
            cfg = compose_run(task, memory, Path(folder), *more)
            cfg.callbacks = {"throughput": cfg.callbacks.throughput}
            cfg.logger = {}
            rates = IterationRates()
            fit(cfg, rates)
        measured = {part: f"{rates.rate(part):.0f}" for part in ("collect", "optimise")}
        rows.append({"task": task, "memory": memory, **measured})
    return rows


def write_rows(folder: Path, table: str, new: Sequence[Row]) -> None:
    """Write rows into a table, replacing those of the same task and memory."""
    tasks = list(TASKS)

    def place(row: Mapping[str, str]) -> tuple[int, int]:
        return tasks.index(row["task"]), memories_of(row["task"]).index(row["memory"])

    replaced = {place(row) for row in new}
    rows = [*(row for row in read_rows(folder, table) if place(row) not in replaced), *new]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(new[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=place))
    write_atomically(folder / f"{table}.csv", text.getvalue())


def main() -> None:
    """Print the row, or the speeds."""
    quieten()
    register_schemas()
    with one_line_errors():
        if len(sys.argv) != 3:
            raise UserError(
                "give a task and a memory, as in python -m results.memories mdp_n10 gru"
            )
        _, task, memory = sys.argv
        if memory == "speed":
            rows = speeds_of(task)
            write_rows(FOLDER, "memory_speeds", rows)
        else:
            rows = [row_of(task, memory, train(task, memory))]
            write_rows(FOLDER, "memories", rows)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items() if name != "curve"))


if __name__ == "__main__":
    main()
