"""The rules between the fields of a config, checked before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from rl2_lightning.config import TrainerConfig, num_ranks, starts_from_weights
from rl2_lightning.errors import UserError
from rl2_lightning.overrides import value_of
from rl2_lightning.run_folder import checkpoint_in
from rl2_lightning.settings import check_ranges

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
WITHIN_AN_ITERATION = "it would end the run within an iteration, where it cannot be resumed"
PARTS_OF_DATA = "it would leave out a part of an iteration or of the held-out tasks"

# Arguments of Lightning's trainer that a run does not support: why, and what to use instead.
REFUSED = {
    "max_steps": (WITHIN_AN_ITERATION, "trainer.max_epochs or collection.total_env_steps"),
    "min_steps": (WITHIN_AN_ITERATION, "collection.total_env_steps"),
    "max_time": (WITHIN_AN_ITERATION, "trainer.max_epochs, or stop the run with SIGTERM"),
    "min_epochs": ("the budget ends a run", "collection.total_env_steps"),
    "val_check_interval": ("validation runs between iterations", "check_val_every_n_epoch"),
    "accumulate_grad_batches": ("it would change the updates", "learner.num_minibatches"),
    "overfit_batches": (PARTS_OF_DATA, "debug=fast"),
    "fast_dev_run": (PARTS_OF_DATA, "debug=fast"),
    "limit_train_batches": (PARTS_OF_DATA, "learner.num_minibatches"),
    "limit_val_batches": (PARTS_OF_DATA, "evaluation.validation_tasks"),
    "limit_test_batches": (PARTS_OF_DATA, "evaluation.test_tasks"),
    "limit_predict_batches": (PARTS_OF_DATA, "evaluation.test_tasks"),
    "gradient_clip_algorithm": ("gradients are clipped by their norm", "gradient_clip_val"),
    "callbacks": ("callbacks are a group of their own", "callbacks.<name>"),
    "logger": ("loggers are a group of their own", "logger=<name>"),
    "enable_checkpointing": ("checkpoints are a callback", "callbacks.checkpoint=null"),
    "enable_progress_bar": ("the progress bar is a callback", "callbacks.progress=null"),
    "default_root_dir": ("a run has one folder", "hydra.run.dir"),
}


def settle_checkpoint(cfg: DictConfig, started_in: str) -> None:
    """Replace the path of the checkpoint that a run uses by that of a file.

    Args:
        cfg: the composed config; changed in place.
        started_in: the folder of the command, which the path refers to; the job may have another.

    Raises:
        UserError: there is no such file, or the folder has no checkpoint.
    """
    field = "start_from" if starts_from_weights(cfg) else "ckpt_path"
    if cfg[field] is None:
        return
    if not cfg[field]:
        raise UserError(f"{field} is empty: give the path of a checkpoint or run, or leave it out")
    path = os.path.expanduser(cfg[field])  # noqa: PTH111 - Path's raises an error without a home
    if not Path(started_in).samefile(Path.cwd()):
        path = str(Path(started_in, path))
    cfg[field] = checkpoint_in(path, field)


def check(cfg: DictConfig, *, num_cores: int, multirun: bool) -> None:
    """Report the first mistake in a composed config.

    Args:
        cfg: the composed config.
        num_cores: number of CPU cores of this machine.
        multirun: whether Hydra runs several jobs one after the other.

    Raises:
        UserError: with cause, value and remedy in one line.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"no value for {', '.join(missing)}: give one, e.g. `{missing[0]}=...`")
    _check_names(cfg)
    check_ranges(cfg)
    _settle_devices(cfg)
    _check_mode(cfg)
    _check_trial(cfg.trial)
    _check_windows(cfg.collection)
    _check_processes(cfg, num_cores, multirun)
    _check_held_out(cfg)
    _check_precision(cfg.trainer.precision)
    _check_graphs(cfg.trainer, num_ranks(cfg))


def require_known_tuning(texts: Sequence[str], config_dir: Path | None = None) -> None:
    """Check the choice of the group `tuned`, which is optional: Hydra ignores what it cannot find.

    Args:
        texts: arguments of the command that has been composed.
        config_dir: a folder with further groups, unless Hydra's command line knows it.

    Raises:
        UserError: no file of the group has that name.
    """
    choice = value_of("tuned", texts)
    known = set(GlobalHydra.instance().config_loader().get_group_options("tuned"))
    if config_dir is not None:
        known |= {path.stem for path in (config_dir / "tuned").glob("*.yaml")}
    if choice is not None and choice not in known:
        raise UserError(f"tuned={choice} is unknown: known are {', '.join(sorted(known))}")


def require_devices(wanted: int, available: int, kind: str) -> None:
    """Check that a machine has as many devices as a run asks for.

    Raises:
        UserError: `available` is less than `wanted`.
    """
    if wanted > available:
        raise UserError(
            f"trainer.devices={wanted} but this machine has {available} {kind}(s): "
            f"set trainer.devices={available} or less"
        )


def _check_names(cfg: DictConfig, prefix: str = "") -> None:
    """Check that all fields are known: with a plus, Hydra adds a field to any schema."""
    schema = OmegaConf.get_type(cfg)
    for key, value in cfg.items():
        name = f"{prefix}{key!s}"
        if isinstance(value, DictConfig):
            _check_names(value, f"{name}.")
        # Families, memories and learners have schemas of their own.
        if not is_dataclass(schema) or key in {one.name for one in fields(schema)}:
            continue
        if schema is TrainerConfig and key in REFUSED:
            why, remedy = REFUSED[str(key)]
            raise UserError(f"{name}={value} is refused: {why}; use {remedy}")
        known = ", ".join(one.name for one in fields(schema))
        raise UserError(f"unknown config key '{name}': leave it out; known are {known}")


def _settle_devices(cfg: DictConfig) -> None:
    """Replace "auto" by a number: all GPUs, or one process on the CPU."""
    devices = cfg.trainer.devices
    if devices == "auto":
        cfg.trainer.devices = 1
        if cfg.trainer.accelerator != "cpu":
            import torch  # heavy, and only needed here

            cfg.trainer.devices = max(1, torch.cuda.device_count())
    elif not isinstance(devices, int) or devices < 1:
        raise UserError(f"trainer.devices={devices}: give a number of at least 1, or auto")


def _check_mode(cfg: DictConfig) -> None:
    if cfg.mode not in ("train", "test"):
        raise UserError(f"mode={cfg.mode} is unknown: use mode=train or mode=test")
    if cfg.mode == "test" and cfg.ckpt_path is None:
        raise UserError("mode=test without a checkpoint: add ckpt_path=path/to/last.ckpt")


def _check_trial(trial: DictConfig) -> None:
    if (trial.episodes_per_trial is None) == (trial.steps_per_trial is None):
        raise UserError(
            f"trial.episodes_per_trial={trial.episodes_per_trial or 'null'} and "
            f"trial.steps_per_trial={trial.steps_per_trial or 'null'}: "
            "give one, and null for the other"
        )


def _check_windows(collection: DictConfig) -> None:
    window, burn_in = collection.window, collection.burn_in
    if burn_in and window is None:
        raise UserError(
            f"collection.burn_in={burn_in} without windows: set collection.window, or burn_in=0"
        )
    if burn_in and burn_in > window:
        raise UserError(
            f"collection.burn_in={burn_in} is longer than collection.window={window}: "
            f"set collection.burn_in to at most {window}"
        )


def _check_processes(cfg: DictConfig, num_cores: int, multirun: bool) -> None:
    if cfg.trainer.accelerator == "cpu":
        require_devices(cfg.trainer.devices, num_cores, "CPU core")
    if multirun and num_ranks(cfg) > 1:
        raise UserError(
            f"--multirun with trainer.devices={cfg.trainer.devices} and "
            f"trainer.num_nodes={cfg.trainer.num_nodes}: a run with several processes starts them "
            "by running the command again; start each run with a command of its own"
        )
    if cfg.trainer.strategy.endswith(("_spawn", "_fork", "_notebook")):
        raise UserError(
            f"trainer.strategy={cfg.trainer.strategy} leaves the trained weights in other "
            "processes: set trainer.strategy=ddp"
        )


def _check_held_out(cfg: DictConfig) -> None:
    ranks = num_ranks(cfg)
    fewest = min(cfg.evaluation.validation_tasks, cfg.evaluation.test_tasks)
    if fewest < ranks:
        raise UserError(
            f"{fewest} held-out tasks for {ranks} devices: set evaluation.validation_tasks and "
            f"evaluation.test_tasks to at least {ranks}"
        )


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise UserError(
            f"trainer.precision={precision} is not supported: use one of {', '.join(PRECISIONS)}"
        )


def _check_graphs(trainer: DictConfig, ranks: int) -> None:
    if not trainer.cuda_graphs:
        return
    if ranks > 1:
        raise UserError(
            f"trainer.cuda_graphs=true with {ranks} processes: only the operations of one GPU are "
            "recorded; set trainer.cuda_graphs=false, or trainer.devices=1"
        )
    if trainer.precision != "32-true":
        raise UserError(
            f"trainer.cuda_graphs=true with trainer.precision={trainer.precision}: only float32 is "
            "recorded; set trainer.precision=32-true, with trainer.tf32=true for faster products"
        )
