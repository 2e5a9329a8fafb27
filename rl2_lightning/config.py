"""The schemas of the YAML files.

Imports nothing heavy, so that a mistake is reported before torch is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf

from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.run_folder import new_folder
from rl2_lightning.settings import Settings, between, one_of


@dataclass
class TrialConfig(Settings):
    """The length of a trial; exactly one of the two lengths is given."""

    episodes_per_trial: int | None = between(1)
    steps_per_trial: int | None = between(1)
    continues: bool = MISSING


@dataclass
class StageConfig:
    """A part of the budget with other collection settings."""

    env_steps: int = between(1)
    num_trials: int = between(1)
    trial_length: int | None = between(1, default=None)


@dataclass
class CollectionConfig(Settings):
    """How trials are collected, over all ranks."""

    num_trials: int = between(1)
    total_env_steps: int = between(1)
    curriculum: dict[str, StageConfig] | None = field(default_factory=dict)
    uses_curriculum: bool = True
    window: int | None = between(1)
    burn_in: int = between(0)
    expected_rewards: bool = MISSING
    # With defaults, since earlier checkpoints have no such fields.
    backend: str = one_of("batched", "vector", "process", "ray", default="batched")
    num_workers: int | None = between(1, default=None)
    worker_timeout: float = between(0.001, default=60.0)

    @property
    def stages(self) -> dict[str, StageConfig]:
        """The stages of the curriculum; empty if it is not used."""
        return self.curriculum or {} if self.uses_curriculum else {}


@dataclass
class EvaluationConfig(Settings):
    """The held-out tasks."""

    validation_tasks: int = between(1)
    test_tasks: int = between(1)
    batch_size: int = between(1)
    tasks_seed: int = between(0)
    other_sizes: bool = MISSING


@dataclass
class TrainerConfig(Settings):
    """The arguments passed to `lightning.Trainer`, and how a GPU computes.

    The program sets its other arguments itself, or they would stop a run within an iteration.
    """

    accelerator: str = MISSING
    devices: int | str = MISSING  # how many, or "auto"
    num_nodes: int = between(1)
    strategy: str = MISSING
    precision: str = MISSING
    max_epochs: int | None = between(1)
    gradient_clip_val: float | None = between(0)
    check_val_every_n_epoch: int = between(1)
    profiler: str | None = MISSING
    deterministic: bool | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    # With defaults, since earlier checkpoints have no such fields.
    cuda_graphs: bool = False
    tf32: bool = False


@dataclass
class TrainConfig:
    """The configuration of a run."""

    mode: str = MISSING
    seed: int = between(0)
    ckpt_path: str | None = MISSING
    start_from: str | None = MISSING
    trust_targets: list[str] = field(default_factory=list)
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
    """Register the schemas with Hydra under the names that the YAML files refer to."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)


NO_FOLDER = "(made when the run starts)"

# The folder of a run, as configs/hydra/default.yaml names it.
RUN_TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")


def run_name(experiment: str, env: str, ckpt_path: str | None) -> str:
    """The name in the path of a run's folder.

    Args:
        experiment: the chosen experiment.
        env: the chosen family of tasks.
        ckpt_path: the checkpoint that the run starts from, if any.

    Returns:
        The experiment's name; without one, the name above the folder of the run that wrote the
        checkpoint, if that folder is named by a time; else the family's name.
    """
    if experiment != "default":
        return experiment
    if ckpt_path is not None:
        folder = Path(ckpt_path) if Path(ckpt_path).is_dir() else Path(ckpt_path).parent
        if RUN_TIME.match(folder.absolute().name):
            return folder.absolute().parent.name
    return env


def folder_of_run() -> str:
    """The folder of the run; a note in its place if the config is only printed, as by `--cfg`."""
    return OmegaConf.select(cast(DictConfig, HydraConfig.get()), "runtime.output_dir") or NO_FOLDER


def starts_from_weights(cfg: DictConfig) -> bool:
    """Whether a new training starts from the weights of another one."""
    return cfg.mode == "train" and cfg.ckpt_path is None and cfg.start_from is not None


def num_ranks(cfg: DictConfig) -> int:
    """The number of processes that train together."""
    return int(cfg.trainer.devices) * int(cfg.trainer.num_nodes)


# At import, so that they are also known in processes that a launcher sends the job to.
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("folder_of_run", folder_of_run, replace=True)
# Cached, so that every reference in a config gives the same folder, also in jobs of a sweep.
OmegaConf.register_new_resolver("new_folder", new_folder, replace=True, use_cache=True)
