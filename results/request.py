"""Compose an evaluation: a cell of a table, and a checkpoint that fits it."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import MISSING, DictConfig, OmegaConf

from results.cells import CONFIGS, Cell, find_cell
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config_checks import check
from rl2_lightning.errors import UserError
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.parts import find_class, leave_out_foreign
from rl2_lightning.stored import differences, require_matching_checkpoint, takes_other_sizes

# Separate tasks, since settings are chosen by results on the tasks that runs are tested on.
TASKS = ("evaluation.tasks_seed=2017", "evaluation.test_tasks=10000")


@dataclass(frozen=True)
class Request:
    """What is to be evaluated.

    Attributes:
        cell: of the row.
        experiment: that trains the agent.
        agent: its memory, and its policy head and its learner if they are not the default ones.
        trained_on: the fields of family and trial in which its training differs from the cell.
        cfg: the composed config of the evaluation.
        checkpoint: of the agent; it fits cell and config.
    """

    cell: Cell
    experiment: str
    agent: str
    trained_on: Mapping[str, Any]
    cfg: DictConfig
    checkpoint: Checkpoint

    @property
    def name(self) -> str:
        """The name by which row, curves and weights are kept.

        Raises:
            UserError: seed or size is no number, which must not name a file.
        """
        sizes = {key: value for key, value in self.trained_on.items() if isinstance(value, int)}
        parts = [f"{key.rpartition('.')[-1]}{int(value)}" for key, value in sizes.items()]
        seed = self.checkpoint.config.get("seed")
        if type(seed) is not int:
            raise UserError(
                f"the checkpoint has seed={seed!r}, which is not a number: use another one"
            )
        return "_".join(
            [self.experiment, *(["trained_on", *parts] if parts else []), f"seed{seed}"]
        )


def compose_evaluation(overrides: list[str]) -> Request:
    """The cell, the config of its evaluation, and a checkpoint that fits both.

    Args:
        overrides: overrides as on the command line, including `experiment` and `ckpt_path`.

    Raises:
        UserError: an override is missing, or the checkpoint is of another family or size.
    """
    given = dict(text.partition("=")[::2] for text in overrides)
    for name in ("experiment", "ckpt_path"):
        if name not in given:
            raise UserError(f"{name} is missing: write {name}=...")
    for name, value in given.items():
        if name.startswith("trainer."):
            raise UserError(f"{name}={value} for an evaluation, which has no trainer: leave it out")
    cell = find_cell(given["experiment"])
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["output_dir=.", "mode=test", *TASKS, *overrides])
    check(cfg, num_cores=os.cpu_count() or 1, multirun=False)
    leave_out_foreign(cfg, overrides)
    require_cell(cell, differences_from(cell, cfg), "the command has", "leave it out")
    # Checked before the agent: a checkpoint of another cell often has another agent, too.
    checkpoint = Checkpoint.read(cfg.ckpt_path, "ckpt_path")
    trained = differences_from(cell, checkpoint.config)
    refused = trained
    if takes_other_sizes(cfg, "ckpt_path"):
        refused = {key: pair for key, pair in trained.items() if key == "env._target_"}
    require_cell(
        cell,
        refused,
        f"ckpt_path={cfg.ckpt_path} was trained with",
        "give the experiment that it was trained for",
    )
    return Request(
        cell,
        given["experiment"],
        agent_text(cfg),
        {key: theirs for key, (theirs, _) in trained.items()},
        cfg,
        require_matching_checkpoint(cfg),
    )


def agent_text(cfg: DictConfig) -> str:
    """The agent's memory, and its policy head and its learner if they are not the default ones."""
    memory, learner = (cfg[group]._target_.split(".")[-2] for group in ("memory", "learner"))
    parts = [(memory, ""), (cfg.agent.policy_head, "layers"), (learner, "ppo")]
    return ", ".join(part for part, default in parts if part != default).replace("_", " ")


def differences_from(
    cell: Cell, settings: Mapping[str, Any] | DictConfig
) -> dict[str, tuple[Any, Any]]:
    """The fields of family and trial in which settings differ from those of a cell's experiment.

    Args:
        cell: the cell.
        settings: settings to compare with the experiment; plain values, from which nothing is
            built.

    Returns:
        The settings' value and the experiment's, by the field's name.

    Raises:
        UserError: the settings lack the family or the trial.
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        experiment = compose("train", ["output_dir=.", f"experiment={cell.name}"])
    found: dict[str, tuple[Any, Any]] = {}
    for group in ("env", "trial"):
        theirs = settings.get(group)
        if not isinstance(theirs, Mapping):
            raise UserError(f"the checkpoint has no settings of {group}: use another one")
        # Fields that a family has got since then have their defaults.
        given = {**(_defaults_of_family(experiment) if group == "env" else {}), **theirs}
        differing = differences(OmegaConf.create(given), experiment[group])
        found |= {f"{group}.{key}": pair for key, pair in differing.items()}
    return found


def _defaults_of_family(cfg: DictConfig) -> dict[str, Any]:
    """The defaults of a family's settings, by field."""
    fields = dataclasses.fields(find_class(cfg, "env", TaskEnv).Settings)
    none = (dataclasses.MISSING, MISSING)
    return {one.name: one.default for one in fields if one.default not in none}


def require_cell(
    cell: Cell, differing: Mapping[str, tuple[Any, Any]], said: str, remedy: str
) -> None:
    """Check that a row has the family and the size of its experiment.

    Args:
        cell: the row's cell.
        differing: differences as returned by `differences_from`.
        said: source of the settings, as the beginning of a sentence.
        remedy: what the user can do.

    Raises:
        UserError: the family or the trial differs.
    """
    for key, (theirs, ours) in differing.items():
        raise UserError(f"{said} {key}={theirs}, experiment={cell.name} has {ours}: {remedy}")
