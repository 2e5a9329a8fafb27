"""Evaluates a checkpoint on held-out tasks, and writes its row.

`python -m results.evaluate experiment=mab_n100_k5 ckpt_path=outputs/a_run/last.ckpt`
"""

import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from callbacks.files import write_atomically
from results.cells import FOLDER, Cell, find_cell, write_row
from rl2_lightning.build import (
    build_data,
    build_learner,
    build_trainer,
    require_matching_checkpoint,
)
from rl2_lightning.checkpoint_io import AtomicCheckpointIO
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.config import check, register_schemas
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.session import quieten

CONFIGS = FOLDER.parent / "configs"
# Tasks of their own: settings are chosen while looking at those that runs are tested on.
TASKS = ("evaluation.tasks_seed=2017", "evaluation.test_tasks=10000")
KEPT = ("state_dict", "hyper_parameters", "epoch", "global_step", "pytorch-lightning_version")
CURVE_COLUMNS = ("player", "episode", "mean", "half_width")


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint has shown.

    Attributes:
        agents: the agent's curves, greedy and sampled.
        oracles: the oracles' curves on the same tasks, the reference last.
        env_steps: env steps that it was trained for.
    """

    agents: Mapping[str, Curve]
    oracles: Mapping[str, Curve]
    env_steps: int


def evaluate(cfg: DictConfig) -> Evaluation:
    """Plays the tasks of the test."""
    cfg.callbacks, cfg.logger = {}, {}
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data)
    trainer.test(learner, data, ckpt_path=cfg.ckpt_path, verbose=False, weights_only=True)
    oracles = data.held_out["test"].oracle_curves()
    return Evaluation(dict(learner.latest_curves), oracles, learner.env_steps)


def require_same_trial(cell: Cell, checkpoint: Mapping[str, Any], cfg: DictConfig) -> None:
    """A row is of the size that it was trained for.

    Raises:
        UserError: the checkpoint was trained for trials of another length.
    """
    theirs, ours = checkpoint["hyper_parameters"]["trial"], cfg.trial
    for name in ("episodes_per_trial", "steps_per_trial"):
        if theirs[name] != ours[name]:
            raise UserError(
                f"ckpt_path={cfg.ckpt_path} was trained with trial.{name}={theirs[name]}, "
                f"experiment={cell.experiment} has {ours[name]}: give the experiment that it was "
                "trained for"
            )


def small_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a test needs of a checkpoint, without the optimiser's state or paths of a machine."""
    kept = {name: checkpoint[name] for name in KEPT}
    settings = {**kept["hyper_parameters"], "output_dir": ".", "ckpt_path": None}
    # What callbacks were told names folders.
    kept["hyper_parameters"] = settings | {"callbacks": {}, "logger": {}}
    kept["callbacks"] = {"Summary": {"training_seconds": training_seconds(checkpoint)}}
    return kept


def training_seconds(checkpoint: Mapping[str, Any]) -> float:
    """Wall seconds of the training, over all runs that it was resumed in."""
    return float(checkpoint["callbacks"]["Summary"]["training_seconds"])


def row_of(
    cell: Cell, checkpoint: Mapping[str, Any], found: Evaluation, command: str
) -> dict[str, str]:
    """The row of a table."""
    settings = checkpoint["hyper_parameters"]
    greedy = found.agents["greedy"]
    row = {
        **cell.sizes,
        "seed": settings["seed"],
        "num_tasks": greedy.num_trials,
        "env_steps": found.env_steps,
        "total_env_steps": settings["collection"]["total_env_steps"],
        "training_seconds": f"{training_seconds(checkpoint):.0f}",
        "bar": cell.bar,
        "reached": "yes" if greedy.trial_return >= cell.bar else "no",
    }
    for name, curve in {**_named(found.agents), **found.oracles}.items():
        row[name] = f"{curve.trial_return:.4f}"
        row[f"{name}_half_width"] = f"{curve.trial_half_width:.4f}"
    row |= {f"published_{name}": figure for name, figure in cell.published.items()}
    return {name: str(value) for name, value in row.items()} | {"command": command}


def curves_text(found: Evaluation) -> str:
    """The curves of all players as CSV."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CURVE_COLUMNS)
    for player, curve in {**_named(found.agents), **found.oracles}.items():
        for episode, (mean, half) in enumerate(
            zip(curve.mean.tolist(), curve.half_width.tolist(), strict=True), start=1
        ):
            writer.writerow([player, episode, f"{mean:.4f}", f"{half:.4f}"])
    return text.getvalue()


def _named(agents: Mapping[str, Curve]) -> dict[str, Curve]:
    return {f"agent_{name}": curve for name, curve in agents.items()}


def run(overrides: list[str], folder: Path) -> dict[str, str]:
    """Evaluates, and writes row, curves and weights.

    Args:
        overrides: as on the command line; `experiment` and `ckpt_path` among them.
        folder: where the tables stand.

    Returns:
        The row.

    Raises:
        UserError: an override is missing, or the checkpoint is of another family or size.
    """
    given = dict(text.partition("=")[::2] for text in overrides)
    for name in ("experiment", "ckpt_path"):
        if name not in given:
            raise UserError(f"{name} is missing: write {name}=...")
    cell = find_cell(given["experiment"])
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["output_dir=.", "mode=test", *TASKS, *overrides])
    check(cfg, num_cores=1, multirun=False)
    path = Path(cfg.ckpt_path)
    require_matching_checkpoint(path, cfg)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    require_same_trial(cell, checkpoint, cfg)
    found = evaluate(cfg)
    name = f"{cell.experiment}_seed{checkpoint['hyper_parameters']['seed']}"
    kept = folder / "checkpoints" / f"{name}.ckpt"
    # The command that anyone can repeat is that on the kept weights.
    named = [text for text in overrides if not text.startswith("ckpt_path=")]
    command = ["python -m results.evaluate", *named, f"ckpt_path=results/checkpoints/{name}.ckpt"]
    row = row_of(cell, checkpoint, found, " ".join(command))
    AtomicCheckpointIO().save_checkpoint(small_checkpoint(checkpoint), kept)
    write_atomically(folder / "curves" / f"{name}.csv", curves_text(found))
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
