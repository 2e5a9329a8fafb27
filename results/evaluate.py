"""Evaluates a checkpoint on held-out tasks, and writes its row.

`python -m results.evaluate experiment=mab_n100_k5 ckpt_path=outputs/a_run/last.ckpt`
"""

import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from callbacks.trial_analysis import TrialAnalysis
from results.cells import FOLDER, HALF_WIDTH, MEASURE, Cell, Row, find_cell, write_row
from results.curves import read_curves, write_curves
from rl2_lightning.build import (
    build_data,
    build_learner,
    build_trainer,
    differences,
    read_settings,
    require_matching_checkpoint,
)
from rl2_lightning.checkpoint_io import AtomicCheckpointIO
from rl2_lightning.collection.datamodule import TrialDataModule
from rl2_lightning.collection.plan import CollectionPlan
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.config import CollectionConfig, check, num_ranks, register_schemas
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.means import Estimate
from rl2_lightning.session import quieten

CONFIGS = FOLDER.parent / "configs"
# Tasks of their own: settings are chosen while looking at those that runs are tested on.
TASKS = ("evaluation.tasks_seed=2017", "evaluation.test_tasks=10000")
KEPT = ("state_dict", "hyper_parameters", "epoch", "global_step", "pytorch-lightning_version")
SUMMARY = "Summary"  # the callback that keeps the time of the training


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint has shown.

    Attributes:
        agents: the agent's curves, greedy and sampled.
        oracles: the oracles' curves on the same tasks, the reference last.
        measures: what the family's own analyses say of the agent.
        tasks_seed: seed of the tasks.
        env_steps: env steps that the agent has learnt from.
        total_env_steps: env steps of the whole iterations that its budget holds.
    """

    agents: Mapping[str, Curve]
    oracles: Mapping[str, Curve]
    measures: Mapping[str, Estimate]
    tasks_seed: int
    env_steps: int
    total_env_steps: int


def evaluate(
    cfg: DictConfig, settings: Mapping[str, Any], oracles: Path, analyses: Path
) -> Evaluation:
    """Lets the agent and the oracles play the tasks of the test.

    Args:
        cfg: the composed config, with the checkpoint.
        settings: what the checkpoint was trained with.
        oracles: file of the oracles' curves.
        analyses: folder of what the family's own analyses write.
    """
    cfg.callbacks, cfg.logger = _watching(cfg.callbacks, analyses), {}
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data)
    trainer.test(learner, data, ckpt_path=cfg.ckpt_path, verbose=False, weights_only=True)
    agents = {f"agent_{name}": curve for name, curve in learner.latest_curves.items()}
    return Evaluation(
        agents,
        oracle_curves(data, cfg.evaluation.tasks_seed, oracles),
        _measures(cast(Any, trainer).callbacks),
        cfg.evaluation.tasks_seed,
        learner.env_steps,
        planned_env_steps(settings, data.max_steps),
    )


def _watching(callbacks: DictConfig, folder: Path) -> dict[str, Any]:
    """The progress, and the analyses of the experiment's family."""
    kept: dict[str, Any] = {"progress": callbacks.get("progress")}
    for name, callback in callbacks.items():
        if callback is not None and issubclass(get_class(callback._target_), TrialAnalysis):
            kept[str(name)] = {**callback, "dirpath": str(folder)}
            folder.mkdir(parents=True, exist_ok=True)
    return kept


def _measures(callbacks: Iterable[Any]) -> dict[str, Estimate]:
    analyses = [callback for callback in callbacks if isinstance(callback, TrialAnalysis)]
    return {name: found for analysis in analyses for name, found in analysis.measures.items()}


def oracle_curves(data: TrialDataModule, tasks_seed: int, path: Path) -> dict[str, Curve]:
    """The oracles' curves on the tasks of the test, from the file if it holds them.

    They are the same for all checkpoints of a cell, and may take an hour to play.
    """
    held_out = data.held_out["test"]
    if path.exists():
        played, curves = read_curves(path)
        wanted = list(held_out.env.oracles(held_out.num_episodes))
        same_number = all(curve.num_trials == len(held_out.tasks) for curve in curves.values())
        if played == tasks_seed and list(curves) == wanted and same_number:
            return curves
    write_curves(path, tasks_seed, held_out.oracle_curves())
    # Read back, so that a first and a later row hold the same digits.
    return read_curves(path)[1]


def planned_env_steps(settings: Mapping[str, Any], max_steps: int) -> int:
    """Env steps of the whole iterations that a budget holds.

    Args:
        settings: of a training whose trials are given in episodes.
        max_steps: most env steps of its trials.
    """
    collection = OmegaConf.to_object(OmegaConf.merge(CollectionConfig, settings["collection"]))
    length = settings["trial"]["episodes_per_trial"]
    plan = CollectionPlan(cast(CollectionConfig, collection), length, max_steps // length)
    return sum(stage.num_iterations * stage.steps_per_iteration for stage in plan.stages)


def require_cell(
    cell: Cell, settings: Mapping[str, Any] | DictConfig, said: str, remedy: str
) -> None:
    """A row is of the family and the size that its experiment names.

    Args:
        cell: the row's cell.
        settings: what is compared with the experiment.
        said: where the settings stand, as the beginning of a sentence.
        remedy: what the user can do.

    Raises:
        UserError: the family or the trial is another.
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        experiment = compose("train", ["output_dir=.", f"experiment={cell.experiment}"])
    for group in ("env", "trial"):
        pairs = differences(OmegaConf.create(settings[group]), experiment[group])
        for key, (theirs, ours) in pairs.items():
            raise UserError(
                f"{said} {group}.{key}={theirs}, experiment={cell.experiment} has {ours}: {remedy}"
            )


def small_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a test needs of a checkpoint, without the optimiser's state or paths of a machine."""
    kept = {name: checkpoint[name] for name in KEPT}
    settings = {**kept["hyper_parameters"], "output_dir": ".", "ckpt_path": None}
    # What callbacks were told names folders.
    kept["hyper_parameters"] = settings | {"callbacks": {}, "logger": {}}
    kept["callbacks"] = {
        name: state for name, state in checkpoint["callbacks"].items() if name == SUMMARY
    }
    return kept


def training_seconds(checkpoint: Mapping[str, Any]) -> str:
    """Wall seconds of the training, over all runs that it was resumed in; empty where unknown."""
    summary = checkpoint["callbacks"].get(SUMMARY)
    return f"{summary['training_seconds']:.0f}" if summary else ""


def row_of(cell: Cell, checkpoint: Mapping[str, Any], found: Evaluation, command: str) -> Row:
    """The row of a table."""
    greedy = found.agents["agent_greedy"]
    row = {
        **cell.place,
        "seed": checkpoint["hyper_parameters"]["seed"],
        "num_tasks": greedy.num_trials,
        "tasks_seed": found.tasks_seed,
        "env_steps": found.env_steps,
        "total_env_steps": found.total_env_steps,
        "started_from": checkpoint["hyper_parameters"].get("start_from") or "",
        "training_seconds": training_seconds(checkpoint),
        "bar": cell.bar,
        "reached": "yes" if cell.bar.reached_by(greedy, found.oracles, found.measures) else "no",
    }
    for name, curve in {**found.agents, **found.oracles}.items():
        row[name] = f"{curve.trial_return:.4f}"
        row[f"{name}_half_width"] = f"{curve.trial_half_width:.4f}"
    for name, estimate in found.measures.items():
        # What an agent does not do cannot always be measured.
        numbers = [f"{number:.4f}" if isfinite(number) else "" for number in estimate]
        row[f"{MEASURE}{name}"], row[f"{MEASURE}{name}{HALF_WIDTH}"] = numbers
    row |= {f"published_{name}": figure for name, figure in cell.published.items()}
    return {name: str(value) for name, value in row.items()} | {"command": command}


def run(overrides: list[str], folder: Path) -> Row:
    """Evaluates, and writes row, curves and weights.

    Args:
        overrides: as on the command line; `experiment` and `ckpt_path` among them.
        folder: where the tables stand.

    Returns:
        The row.

    Raises:
        UserError: an override is missing, or the checkpoint is of another family or size.
    """
    cell, cfg = _compose(overrides)
    path = Path(cfg.ckpt_path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    settings = checkpoint["hyper_parameters"]
    curves = folder / "curves"
    name = f"{cell.experiment}_seed{settings['seed']}"
    oracles = curves / f"{cell.experiment}_oracles.csv"
    found = evaluate(cfg, settings, oracles, folder / "analyses" / name)
    # The command that anyone can repeat is that on the kept weights.
    named = [text for text in overrides if not text.startswith("ckpt_path=")]
    command = ["python", "-m", "results.evaluate", *named]
    command.append(f"ckpt_path=results/checkpoints/{name}.ckpt")
    row = row_of(cell, checkpoint, found, shlex.join(command))
    AtomicCheckpointIO().save_checkpoint(
        small_checkpoint(checkpoint), folder / "checkpoints" / f"{name}.ckpt"
    )
    write_curves(curves / f"{name}.csv", found.tasks_seed, found.agents)
    write_row(folder, cell, row)
    return row


def _compose(overrides: list[str]) -> tuple[Cell, DictConfig]:
    """The cell, and the config of its evaluation, with a checkpoint that fits both."""
    given = dict(text.partition("=")[::2] for text in overrides)
    for name in ("experiment", "ckpt_path"):
        if name not in given:
            raise UserError(f"{name} is missing: write {name}=...")
    cell = find_cell(given["experiment"])
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["output_dir=.", "mode=test", *TASKS, *overrides])
    check(cfg, num_cores=os.cpu_count() or 1, multirun=False)
    if num_ranks(cfg) > 1:
        raise UserError(
            f"{num_ranks(cfg)} devices for an evaluation, which takes one: leave out "
            "trainer.devices and trainer.num_nodes"
        )
    require_cell(cell, cfg, "the command has", "leave it out")
    # Before the network: a checkpoint of another cell often has another network too.
    require_cell(
        cell,
        read_settings(cfg),
        f"ckpt_path={cfg.ckpt_path} was trained with",
        "give the experiment that it was trained for",
    )
    require_matching_checkpoint(cfg)
    return cell, cfg


def main() -> None:
    """Prints what was reached."""
    quieten()
    register_schemas()
    with one_line_errors():
        row = run(sys.argv[1:], FOLDER)
    shown = ("agent_greedy", "agent_sampled", "bar", "reached", "env_steps")
    print(", ".join(f"{name} {row[name]}" for name in shown))


if __name__ == "__main__":
    main()
