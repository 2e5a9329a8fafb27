"""The schemas behind the YAML files, and the rules between their fields.

Imports nothing heavy: a mistake is told before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from rl2_lightning.errors import UserError
from rl2_lightning.fields import POSITIVE, between, check_value
from rl2_lightning.schemas import FAMILY_SCHEMAS

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass
class TrialConfig:
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
class CollectionConfig:
    """How trials are gathered, over all ranks."""

    num_trials: int = between(1)
    total_env_steps: int = between(1)
    curriculum: dict[str, StageConfig] | None = field(default_factory=dict)
    window: int | None = between(1)
    burn_in: int = between(0)
    expected_rewards: bool = False  # checkpoints that are older than this field lack it


@dataclass
class EvaluationConfig:
    """The held-out tasks."""

    validation_tasks: int = between(1)
    test_tasks: int = between(1)
    batch_size: int = between(1)
    tasks_seed: int = between(0)
    other_sizes: bool = MISSING


@dataclass
class NetworkConfig:
    """The agent."""

    memory: Any = MISSING
    separate: bool = MISSING
    critic_sees_task: bool = False  # checkpoints that are older than this field lack it
    inputs: list[str] = MISSING
    encoder_hidden_sizes: list[int] = field(default=MISSING, metadata=POSITIVE)
    actor_hidden_sizes: list[int] = field(default=MISSING, metadata=POSITIVE)
    critic_hidden_sizes: list[int] = field(default=MISSING, metadata=POSITIVE)


@dataclass
class RecurrentMemoryConfig:
    """A GRU or LSTM; built by the network, once or twice."""

    _target_: str = MISSING
    _partial_: bool = True
    hidden_size: int = between(1)
    num_layers: int = between(1)
    # Checkpoints that are older than this field lack it.
    max_timescale: int | None = between(3, default=None)


@dataclass
class PPOConfig:
    """Proximal policy optimisation."""

    _target_: str = "rl2_lightning.algorithms.ppo.PPO"
    learning_rate: float = between(0, 1e30)  # what float32 can hold, with room for a step
    final_learning_rate: float = between(0, 1e30)
    adam_epsilon: float = between(0)
    gamma: float = between(0, 1)
    gae_lambda: float = between(0, 1)
    clip_epsilon: float = between(0)
    value_clip: float | None = between(0)
    value_coefficient: float = between(1e-6)
    value_norm_decay: float = between(0, 0.99999)  # at 1 nothing would be learnt of the scale
    entropy_coefficient: float = between(0)
    final_entropy_coefficient: float = between(0)
    num_epochs: int = between(1)
    num_minibatches: int = between(1)
    target_kl: float | None = between(0)


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
    network: NetworkConfig = field(default_factory=NetworkConfig)
    algorithm: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: Any = MISSING
    logger: Any = MISSING


def register_schemas() -> None:
    """Makes the schemas known to Hydra, under the names that the YAML files refer to."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    for family, schema in FAMILY_SCHEMAS.items():
        store.store(group="env", name=f"{family}_schema", node=schema)
    store.store(group="network/memory", name="recurrent_schema", node=RecurrentMemoryConfig)
    store.store(group="algorithm", name="ppo_schema", node=PPOConfig)


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
    _check_fields(cfg, prefix="")
    _check_mode(cfg)
    _check_trial(cfg.trial)
    _check_windows(cfg.collection)
    _check_processes(cfg, num_cores, multirun)
    _check_shares(cfg)
    _check_precision(cfg)


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


def _check_fields(cfg: DictConfig, prefix: str) -> None:
    schema = OmegaConf.get_type(cfg)
    metadata = {f.name: f.metadata for f in fields(schema)} if is_dataclass(schema) else None
    for key, value in cfg.items():
        name = f"{prefix}{key!s}"
        if isinstance(value, DictConfig):
            _check_fields(value, prefix=f"{name}.")
        # With a plus Hydra adds a field to any schema; Lightning's trainer knows more than ours.
        if metadata is not None and key not in metadata and schema is not TrainerConfig:
            raise UserError(f"unknown config key '{name}': leave it out")
        rule = metadata.get(str(key)) if metadata else None
        if value is not None and rule:
            check_value(name, value, rule)


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


def _check_shares(cfg: DictConfig) -> None:
    ranks = num_ranks(cfg)
    parts = ranks * cfg.algorithm.num_minibatches
    curriculum = cfg.collection.curriculum or {}
    stages = {f"curriculum.{name}.": stage for name, stage in curriculum.items()}
    for name, stage in {"": cfg.collection, **stages}.items():
        setting, num_trials = f"collection.{name}num_trials", stage.num_trials
        if num_trials % parts:
            nearest = max(parts, round(num_trials / parts) * parts)
            raise UserError(
                f"{setting}={num_trials} does not divide into "
                f"algorithm.num_minibatches={cfg.algorithm.num_minibatches} on {ranks} device(s): "
                f"set {setting}={nearest}"
            )
    fewest = min(cfg.evaluation.validation_tasks, cfg.evaluation.test_tasks)
    if fewest < ranks:
        raise UserError(
            f"{fewest} held-out tasks for {ranks} devices: set evaluation.validation_tasks and "
            f"evaluation.test_tasks to at least {ranks}"
        )


def _check_precision(cfg: DictConfig) -> None:
    precision = cfg.trainer.precision
    if precision not in PRECISIONS:
        raise UserError(
            f"trainer.precision={precision} is not supported: use one of {', '.join(PRECISIONS)}"
        )
    if precision == "16-mixed" and cfg.algorithm.get("target_kl") is not None:
        raise UserError(
            f"algorithm.target_kl={cfg.algorithm.target_kl} with trainer.precision=16-mixed: the "
            "gradient scaler takes no skipped updates; set trainer.precision=bf16-mixed"
        )
