"""Evaluates a checkpoint on held-out tasks, and writes its row.

`python -m results.evaluate experiment=mab_n100_k5 ckpt_path=outputs/a_run/last.ckpt`
"""

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from callbacks.trial_analysis import TrialAnalysis
from results.cells import (
    FOLDER,
    HALF_WIDTH,
    MEASURE,
    Cell,
    Row,
    require_no_loss,
    write_row,
)
from results.curves import read_curves, write_curves
from results.request import compose_evaluation, unlike
from rl2_lightning.algorithms.learner import Learner
from rl2_lightning.build import (
    build_data,
    build_learner,
    build_trainer,
    require_fitting_weights,
)
from rl2_lightning.checkpoint_io import AtomicCheckpointIO
from rl2_lightning.collection.datamodule import TrialDataModule
from rl2_lightning.collection.plan import CollectionPlan
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.config import CollectionConfig, register_schemas
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.means import Estimate
from rl2_lightning.session import quieten

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
        trained_on: in what the tasks of its training were others; empty where they were not.
        env_steps: env steps that the agent has learnt from.
        total_env_steps: env steps that it will have learnt from; see the function.
    """

    agents: Mapping[str, Curve]
    oracles: Mapping[str, Curve]
    measures: Mapping[str, Estimate]
    tasks_seed: int
    trained_on: str
    env_steps: int
    total_env_steps: int


def evaluate(cell: Cell, cfg: DictConfig, settings: Mapping[str, Any], folder: Path) -> Evaluation:
    """Lets the agent and the oracles play the tasks of the test.

    Args:
        cell: of the row.
        cfg: the composed config, with the checkpoint.
        settings: what the checkpoint was trained with.
        folder: of the tables, with the oracles' curves, where what the family's own analysis says
            is written.
    """
    analyses = folder / "analyses" / f"{cell.experiment}_seed{settings['seed']}"
    cfg.callbacks, cfg.logger = _watching(cfg.callbacks, analyses), {}
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    require_fitting_weights(learner, cfg, "ckpt_path")
    trainer = build_trainer(cfg, data)
    trainer.test(learner, data, ckpt_path=cfg.ckpt_path, verbose=False, weights_only=True)
    agents = {f"agent_{name}": curve for name, curve in learner.latest_curves.items()}
    return Evaluation(
        agents,
        oracle_curves(
            data,
            origin_of(cfg),
            folder / "curves" / f"{cell.experiment}_oracles.csv",
        ),
        _measures(cast(Any, trainer).callbacks),
        cfg.evaluation.tasks_seed,
        unlike(cell, settings),
        learner.env_steps,
        total_env_steps(settings, learner),
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


def oracle_curves(data: TrialDataModule, origin: str, path: Path) -> dict[str, Curve]:
    """The oracles' curves on the tasks of the test, from the file if it holds them.

    They are the same for all checkpoints of a cell, and may take an hour to play.

    Args:
        data: with the tasks.
        origin: as `origin_of` gives it.
        path: the file.
    """
    held_out = data.held_out["test"]
    if path.exists():
        played, curves = read_curves(path)
        wanted = list(held_out.env.oracles(held_out.num_episodes))
        same_number = all(curve.num_trials == len(held_out.tasks) for curve in curves.values())
        if played == origin and list(curves) == wanted and same_number:
            return curves
    write_curves(path, origin, held_out.oracle_curves())
    # Read back, so that a first and a later row hold the same digits.
    return read_curves(path)[1]


def origin_of(cfg: DictConfig) -> str:
    """The tasks and trials of an evaluation, as text."""
    told = {group: OmegaConf.to_container(cfg[group]) for group in ("env", "trial")}
    return json.dumps({**told, "tasks_seed": cfg.evaluation.tasks_seed}, sort_keys=True)


def total_env_steps(settings: Mapping[str, Any], learner: Learner) -> int:
    """Env steps that a training has when it is finished.

    Args:
        settings: of the training.
        learner: as far as it was trained.

    Returns:
        Those that it had, if it is finished. Else those of the whole iterations that its budget
        holds, in which idle steps count.
    """
    collection = OmegaConf.to_object(OmegaConf.merge(CollectionConfig, settings["collection"]))
    trial = settings["trial"]
    episode_steps = instantiate(settings["env"], num_tasks=1).max_episode_steps
    in_episodes = trial["episodes_per_trial"] is not None
    plan = CollectionPlan(
        cast(CollectionConfig, collection),
        trial["episodes_per_trial"] if in_episodes else trial["steps_per_trial"],
        episode_steps if in_episodes else 1,
    )
    if learner.iteration >= plan.num_iterations:
        return learner.env_steps
    return sum(stage.num_iterations * stage.steps_per_iteration for stage in plan.stages)


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
        "trained_on": found.trained_on,
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
        UserError: an override is missing, the checkpoint is of another family or size, or a row
            of more tasks would be lost.
    """
    cell, cfg = compose_evaluation(overrides)
    path = Path(cfg.ckpt_path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    settings = checkpoint["hyper_parameters"]
    require_no_loss(folder, cell, settings["seed"], cfg.evaluation.test_tasks)
    found = evaluate(cell, cfg, settings, folder)
    name = f"{cell.experiment}_seed{settings['seed']}"
    # The command that anyone can repeat is that on the kept weights.
    named = [text for text in overrides if not text.startswith("ckpt_path=")]
    command = ["python", "-m", "results.evaluate", *named]
    command.append(f"ckpt_path=results/checkpoints/{name}.ckpt")
    row = row_of(cell, checkpoint, found, shlex.join(command))
    AtomicCheckpointIO().save_checkpoint(
        small_checkpoint(checkpoint), folder / "checkpoints" / f"{name}.ckpt"
    )
    write_curves(folder / "curves" / f"{name}.csv", origin_of(cfg), found.agents)
    write_row(folder, cell, row)
    return row


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
