"""The schemas behind the YAML files, and the rules between their fields.

Imports nothing heavy: a mistake is told before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.errors import UserError
from rl2_lightning.settings import Settings, between, check_ranges

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass
class TrialConfig(Settings):
    """What a trial is; exactly one of the two lengths is given."""

    episodes_per_trial: int | None = between(1)
    steps_per_trial: int | None = between(1)
    continues: bool = MISSING


@dataclass
class StageConfig:
    """A part of the budget that is collected in another way."""

    env_steps: int = between(1)
    num_trials: int = between(1)
    trial_length: int | None = between(1, default=None)


@dataclass
class CollectionConfig(Settings):
    """How trials are gathered, over all ranks."""

    num_trials: int = between(1)
    total_env_steps: int = between(1)
    curriculum: dict[str, StageConfig] | None = field(default_factory=dict)
    window: int | None = between(1)
    burn_in: int = between(0)
    expected_rewards: bool = MISSING


@dataclass
class EvaluationConfig:
    """The held-out tasks."""

    validation_tasks: int = between(1)
    test_tasks: int = between(1)
    batch_size: int = between(1)
    tasks_seed: int = between(0)
    other_sizes: bool = MISSING


@dataclass
class TrainerConfig:
    """What goes to `lightning.Trainer`."""

    accelerator: str = MISSING
    devices: int = between(1)
    num_nodes: int = between(1)
    strategy: str = MISSING
    precision: str = MISSING
    max_epochs: int | None = between(1)
    gradient_clip_val: float | None = between(0)
    check_val_every_n_epoch: int = between(1)
    profiler: str | None = MISSING


@dataclass
class TrainConfig:
    """The whole of a run."""

    mode: str = MISSING
    seed: int = between(0)
    ckpt_path: str | None = MISSING
    start_from: str | None = MISSING
    output_dir: str = MISSING
    env: Any = MISSING
    trial: TrialConfig = field(default_factory=TrialConfig)
    collection: CollectionConfig = field(default_factory=CollectionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    agent: AgentSettings = field(default_factory=AgentSettings)
    memory: Any = MISSING
    learner: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: Any = MISSING
    logger: Any = MISSING


def register_schemas() -> None:
    """Makes the schemas known to Hydra, under the names that the YAML files refer to."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def run_name(experiment: str, env: str) -> str:
    """The name of a run's folder: that of its experiment, or else of its family."""
    return env if experiment == "default" else experiment


def check(cfg: DictConfig, *, num_cores: int, multirun: bool) -> None:
    """Tells the first mistake of a composed config.

    Args:
        cfg: the composed config.
        num_cores: CPU cores of this machine.
        multirun: whether Hydra runs several jobs one after the other.

    Raises:
        UserError: with cause, value and remedy in one line.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"no value for {', '.join(missing)}: give one, e.g. `{missing[0]}=...`")
    _check_names(cfg)
    check_ranges(cfg)
    _check_mode(cfg)
    _check_trial(cfg.trial)
    _check_windows(cfg.collection)
    _check_processes(cfg, num_cores, multirun)
    _check_held_out(cfg)
    _check_precision(cfg.trainer.precision)


def require_devices(wanted: int, available: int, kind: str) -> None:
    """Tells when a machine has fewer devices than a run asks for.

    Raises:
        UserError: `available` is less than `wanted`.
    """
    if wanted > available:
        raise UserError(
            f"trainer.devices={wanted} but this machine has {available} {kind}(s): "
            f"set trainer.devices={available} or less"
        )


def starts_from_weights(cfg: DictConfig) -> bool:
    """Whether a new training begins with the weights of another one."""
    return cfg.mode == "train" and cfg.ckpt_path is None and cfg.start_from is not None


def num_ranks(cfg: DictConfig) -> int:
    """Processes that train together."""
    return int(cfg.trainer.devices) * int(cfg.trainer.num_nodes)


def _check_names(cfg: DictConfig, prefix: str = "") -> None:
    """With a plus Hydra adds a field to any schema."""
    schema = OmegaConf.get_type(cfg)
    for key, value in cfg.items():
        name = f"{prefix}{key!s}"
        if isinstance(value, DictConfig):
            _check_names(value, f"{name}.")
        # Families, memories and learners have schemas of their own; Lightning's trainer has more
        # fields than this one tells.
        if not is_dataclass(schema) or schema is TrainerConfig:
            continue
        if key not in {one.name for one in fields(schema)}:
            raise UserError(f"unknown config key '{name}': leave it out")


def _check_mode(cfg: DictConfig) -> None:
    if cfg.mode not in ("train", "test"):
        raise UserError(f"mode={cfg.mode} is unknown: use mode=train or mode=test")
    if cfg.mode == "test" and cfg.ckpt_path is None:
        raise UserError("mode=test without a checkpoint: add ckpt_path=path/to/last.ckpt")
    for field_name in ("start_from",) if starts_from_weights(cfg) else ("ckpt_path",):
        if cfg[field_name] is not None and not Path(cfg[field_name]).is_file():
            raise UserError(
                f"{field_name}={cfg[field_name]} is no file: give the path of a checkpoint"
            )


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
            f"trainer.num_nodes={cfg.trainer.num_nodes}: the processes of a run are started by "
            "running the command again; give each run a command of its own"
        )
    if cfg.trainer.strategy.endswith(("_spawn", "_fork", "_notebook")):
        raise UserError(
            f"trainer.strategy={cfg.trainer.strategy} leaves what was learnt in other processes: "
            "set trainer.strategy=ddp"
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
