"""Evaluate a checkpoint on held-out tasks, and write its row.

`python -m results.evaluate experiment=mab_n100_k5 ckpt_path=outputs/a_run/last.ckpt`
"""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from results.cells import (
    FOLDER,
    HALF_WIDTH,
    MEASURE,
    Row,
    require_no_loss,
    write_row,
)
from results.curves import read_curves, write_curves
from results.request import Request, compose_evaluation
from rl2_lightning.build import build_agent, build_held_out, build_world
from rl2_lightning.callbacks.trial_analysis import write_findings
from rl2_lightning.checkpoint import SECTION, Checkpoint, write_checkpoint
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.config import CollectionConfig, TrialConfig, register_schemas
from rl2_lightning.data.clock import Clock
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.evaluate import evaluate as evaluate_agent
from rl2_lightning.evaluation.findings import main_figures
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.means import Estimate
from rl2_lightning.session import quieten
from rl2_lightning.stored import stored_groups

KEPT = ("state_dict", SECTION, "epoch", "global_step", "pytorch-lightning_version")
SUMMARY = "Summary"  # the callback that stores the training time


@dataclass(frozen=True)
class Evaluation:
    """The results of a checkpoint.

    Attributes:
        agents: the agent's curves, greedy and sampled.
        references: the curves of the reference players on the same tasks, the reference last.
        measures: figures of the family's own analysis for the agent.
        tasks_seed: seed of the tasks.
        trained_on: differences of its training tasks from the cell's; empty if there are none.
        env_steps: number of env steps that the agent has been trained on.
        total_env_steps: the same for the finished training; see `total_env_steps`.
    """

    agents: Mapping[str, Curve]
    references: Mapping[str, Curve]
    measures: Mapping[str, Estimate]
    tasks_seed: int
    trained_on: str
    env_steps: int
    total_env_steps: int


def evaluate(request: Request, folder: Path) -> Evaluation:
    """Let the agent and the reference players play the test tasks.

    Args:
        request: the agent, and the cell.
        folder: folder of the tables, with the reference players' curves; the results of the
            family's own analysis are written there.
    """
    cfg, checkpoint = request.cfg, request.checkpoint
    world = build_world(cfg)
    agent = build_agent(cfg, world)
    checkpoint.load_into(agent, prefix="agent.")
    held_out = build_held_out(cfg, world)["test"]
    found = evaluate_agent(agent.eval(), held_out)
    measures: Mapping[str, Estimate] = {}
    if held_out.analysis is not None:
        measures = main_figures(held_out.analysis, found.findings)
        write_findings(held_out, found.findings, folder / "analyses" / request.name)
    clock = Clock()
    checkpoint.load_into(clock, prefix="clock.")
    return Evaluation(
        {f"agent_{mode}": curve for mode, curve in found.curves.items()},
        reference_curves(
            held_out, origin_of(cfg), folder / "curves" / f"{request.cell.name}_oracles.csv"
        ),
        measures,
        cfg.evaluation.tasks_seed,
        ", ".join(f"{key}={value}" for key, value in request.trained_on.items()),
        clock.env_steps,
        total_env_steps(cfg, checkpoint, clock),
    )


def reference_curves(held_out: HeldOut, origin: str, path: Path) -> dict[str, Curve]:
    """The reference players' curves on the test tasks, from the file if it has them.

    They are the same for all checkpoints of a cell, and may take an hour to compute.

    Args:
        held_out: the tasks.
        origin: description of the tasks by `origin_of`.
        path: the file.
    """
    if path.exists():
        played, curves = read_curves(path)
        same_number = all(curve.num_trials == len(held_out) for curve in curves.values())
        if played == origin and list(curves) == list(held_out.players) and same_number:
            return curves
    write_curves(path, origin, held_out.reference_curves())
    # Read back, so that later rows have the same digits as the first.
    return read_curves(path)[1]


def origin_of(cfg: DictConfig) -> str:
    """A description of the tasks and trials of an evaluation, as text."""
    told = {group: OmegaConf.to_container(cfg[group]) for group in ("env", "trial")}
    return json.dumps({**told, "tasks_seed": cfg.evaluation.tasks_seed}, sort_keys=True)


def total_env_steps(cfg: DictConfig, checkpoint: Checkpoint, clock: Clock) -> int:
    """The number of env steps of a training when it is finished.

    Args:
        cfg: the composed config of the evaluation.
        checkpoint: checkpoint of the training.
        clock: counters of the training.

    Returns:
        The actual number, if it is finished. Otherwise that of the whole iterations that fit its
        budget, including idle steps.
    """
    trained = stored_groups(cfg, checkpoint, "ckpt_path")
    trial = OmegaConf.merge(TrialConfig, trained["trial"])
    collection = OmegaConf.merge(CollectionConfig, trained["collection"])
    groups = {"env": trained["env"], "trial": trial, "collection": collection}
    world = build_world(OmegaConf.create({**groups, "trainer": {"devices": 1}}))
    settings = cast(CollectionConfig, OmegaConf.to_object(collection))
    plan = CollectionPlan(settings, world.trial_length, world.steps_per_unit)
    if clock.iterations >= plan.num_iterations:
        return clock.env_steps
    return sum(stage.num_iterations * stage.steps_per_iteration for stage in plan.stages)


def small_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The part of a checkpoint needed for a test, without optimiser state and local paths."""
    content = checkpoint.content
    # The settings of callbacks contain folders.
    nowhere: dict[str, Any] = {"output_dir": ".", "ckpt_path": None, "callbacks": {}, "logger": {}}
    seconds = _training_seconds(checkpoint)
    return {
        **{name: content[name] for name in KEPT if name in content},
        "hyper_parameters": {**checkpoint.config, **nowhere},
        "callbacks": {} if seconds is None else {SUMMARY: {"training_seconds": seconds}},
    }


def _training_seconds(checkpoint: Checkpoint) -> float | None:
    """The seconds of the training, over all runs that it was resumed in; None if unknown."""
    node: Any = checkpoint.content
    for name in ("callbacks", SUMMARY, "training_seconds"):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, float) else None


def row_of(request: Request, found: Evaluation, command: str) -> Row:
    """The row of a table."""
    cell, checkpoint = request.cell, request.checkpoint
    greedy = found.agents["agent_greedy"]
    seconds = _training_seconds(checkpoint)
    reached = cell.bar.reached_by(greedy, found.references, found.measures)
    row = {
        **cell.place,
        "name": request.name,
        "experiment": request.experiment,
        "agent": request.agent,
        "seed": checkpoint.config["seed"],
        "num_tasks": greedy.num_trials,
        "tasks_seed": found.tasks_seed,
        "env_steps": found.env_steps,
        "total_env_steps": found.total_env_steps,
        "trained_on": found.trained_on,
        "started_from": checkpoint.config.get("start_from") or "",
        "training_seconds": "" if seconds is None else f"{seconds:.0f}",
        "bar": cell.bar,
        "reached": "yes" if reached else "no",
    }
    for name, curve in {**found.agents, **found.references}.items():
        row[name] = f"{curve.trial_return:.4f}"
        row[f"{name}_half_width"] = f"{curve.trial_half_width:.4f}"
    for name, estimate in found.measures.items():
        # Some figures cannot be measured for every agent.
        numbers = [f"{number:.4f}" if isfinite(number) else "" for number in estimate]
        row[f"{MEASURE}{name}"], row[f"{MEASURE}{name}{HALF_WIDTH}"] = numbers
    row |= {f"published_{name}": figure for name, figure in cell.published.items()}
    return {name: str(value) for name, value in row.items()} | {"command": command}


def run(overrides: list[str], folder: Path) -> Row:
    """Evaluate, and write row, curves and weights.

    Args:
        overrides: overrides as on the command line, including `experiment` and `ckpt_path`.
        folder: folder of the tables.

    Returns:
        The row.

    Raises:
        UserError: an override is missing, the checkpoint is of another family or size, or a row
            measured on more tasks would be lost.
    """
    request = compose_evaluation(overrides)
    name = request.name
    require_no_loss(folder, request.cell, name, request.cfg.evaluation.test_tasks)
    found = evaluate(request, folder)
    # Store the command with the stored weights, which anyone can repeat.
    named = [text for text in overrides if not text.startswith("ckpt_path=")]
    command = ["python", "-m", "results.evaluate", *named]
    command.append(f"ckpt_path=results/checkpoints/{name}.ckpt")
    row = row_of(request, found, shlex.join(command))
    write_checkpoint(small_checkpoint(request.checkpoint), folder / "checkpoints" / f"{name}.ckpt")
    write_curves(folder / "curves" / f"{name}.csv", origin_of(request.cfg), found.agents)
    write_row(folder, request.cell, row)
    return row


def main() -> None:
    """Evaluate, and print the main results."""
    quieten()
    register_schemas()
    with one_line_errors():
        row = run(sys.argv[1:], FOLDER)
    shown = ("agent_greedy", "agent_sampled", "bar", "reached", "env_steps")
    print(", ".join(f"{name} {row[name]}" for name in shown))


if __name__ == "__main__":
    main()
