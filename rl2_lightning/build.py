"""From a checked config to the objects of a run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from hydra.utils import get_class, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torchrl.data import Composite
from torchrl.envs.utils import make_composite_from_td

from rl2_lightning import keys
from rl2_lightning.algorithms.learner import Learner
from rl2_lightning.allocator import keep_freed_memory
from rl2_lightning.checkpoint_io import AtomicCheckpointIO
from rl2_lightning.collection.datamodule import TrialDataModule
from rl2_lightning.collection.seeding import Purpose, derive_seed
from rl2_lightning.config import (
    CollectionConfig,
    EvaluationConfig,
    NetworkConfig,
    TrialConfig,
    require_devices,
)
from rl2_lightning.errors import UserError
from rl2_lightning.networks.actor_critic import ActorCritic


def build_data(cfg: DictConfig) -> TrialDataModule:
    """The trials: of the family, the lengths and the seeds that the config names."""
    return TrialDataModule(
        instantiate(cfg.env, _partial_=True),
        cast(TrialConfig, OmegaConf.to_object(cfg.trial)),
        cast(CollectionConfig, OmegaConf.to_object(cfg.collection)),
        cast(EvaluationConfig, OmegaConf.to_object(cfg.evaluation)),
        cfg.seed,
        shows_previous_observation=keys.PREVIOUS_OBSERVATION in cfg.network.inputs,
    )


def build_network(cfg: DictConfig, data: TrialDataModule) -> ActorCritic:
    """The agent, its weights drawn from the run's seed.

    Raises:
        UserError: the critic is to see tasks that have no parameters.
    """
    torch.manual_seed(derive_seed(Purpose.NETWORK, cfg.seed))
    shown = data.specimen.observation_spec_unbatched
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg.network, resolve=True))
    settings["make_memory"] = instantiate(cfg.network.memory)
    del settings["memory"]
    if settings.pop("critic_sees_task"):
        shown = shown.clone()
        shown[keys.TASK] = _task_spec(data)
    return ActorCritic(shown, data.specimen.action_spec_unbatched, **settings)


def _task_spec(data: TrialDataModule) -> Composite:
    spec = make_composite_from_td(data.held_out["test"].tasks[0])
    if not list(spec.keys(True, True)):
        family = type(data.specimen.task_env).__name__
        raise UserError(
            f"network.critic_sees_task=true but the tasks of {family} have no parameters: "
            "set network.critic_sees_task=false"
        )
    return spec


def build_learner(cfg: DictConfig, data: TrialDataModule) -> Learner:
    """The learner around the agent; its checkpoints hold the config."""
    learner = get_class(cfg.algorithm._target_)(
        build_network(cfg, data),
        OmegaConf.to_object(cfg.algorithm),
        num_episodes=data.max_episodes,
        plan=data.plan,
    )
    assert isinstance(learner, Learner)
    learner.save_hyperparameters(OmegaConf.to_container(cfg, resolve=True))
    return learner


def take_weights(learner: Learner, data: TrialDataModule, path: Path) -> None:
    """Begins a training with what another one has learnt, be it on trials of another length.

    Args:
        learner: the new learner.
        data: its trials.
        path: checkpoint of the other training, of the same family and network, with weights that
            fit.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    settings = checkpoint["hyper_parameters"]
    trial = settings["trial"]
    episode_steps = instantiate(settings["env"], num_tasks=1).max_episode_steps
    before = trial["steps_per_trial"] or trial["episodes_per_trial"] * episode_steps
    first = data.plan.stage_at(0)
    after = first.steps_per_iteration / first.num_trials
    learner.take_weights(checkpoint["state_dict"], after / before)


def build_trainer(cfg: DictConfig, data: TrialDataModule) -> pl.Trainer:
    """Lightning's trainer: devices, precision, checkpoints, loggers and callbacks.

    Raises:
        UserError: the machine has not what the config asks for.
    """
    keep_freed_memory()
    settings: dict[str, Any] = dict(cfg.trainer)
    settings["max_epochs"] = min(
        settings["max_epochs"] or data.plan.num_iterations, data.plan.num_iterations
    )
    _require_devices(cfg.trainer.accelerator, cfg.trainer.devices)
    try:
        return pl.Trainer(
            **settings,
            callbacks=_instantiate_all(cfg.callbacks),
            logger=_instantiate_all(cfg.logger),
            plugins=[AtomicCheckpointIO()],
            default_root_dir=cfg.output_dir,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        raise UserError(_why_no_trainer(settings, str(error))) from error


def _instantiate_all(configs: DictConfig) -> list[Any]:
    """What a group of configs describes, without those that were switched off with null."""
    return [instantiate(config) for config in configs.values() if config is not None]


def _require_devices(accelerator: str, wanted: int) -> None:
    """Asks for what Lightning would take; it would start any number of processes on a CPU."""
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        require_devices(wanted, torch.cuda.device_count(), "GPU")
    elif accelerator == "auto" and not torch.backends.mps.is_available():
        require_devices(wanted, os.cpu_count() or 1, "CPU core")


def _why_no_trainer(settings: Mapping[str, Any], reason: str) -> str:
    """Lightning's reason in one line, with the settings that it speaks of."""
    reason = " ".join(reason.split()).rstrip(".!")
    spoken_of = [
        f"trainer.{name}={value}"
        for name, value in settings.items()
        if isinstance(value, str) and value != "auto" and (value in reason or name in reason)
    ]
    culprits = " ".join(spoken_of) or "trainer.*"
    return f"{culprits} cannot be used: {reason}; change it, or leave it out"


def read_settings(cfg: DictConfig, field: str = "ckpt_path") -> dict[str, Any]:
    """The family, the trial and the network that a checkpoint was trained with, by group.

    Args:
        cfg: the composed config.
        field: which of its fields names the checkpoint.

    Raises:
        UserError: it cannot be read.
    """
    path = Path(cfg[field])
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        settings = checkpoint["hyper_parameters"]
        trained = {group: settings[group] for group in ("env", "trial", "network")}
        # A checkpoint that is older than a field was trained with its default.
        default = {"critic_sees_task": NetworkConfig.critic_sees_task}
        return {**trained, "network": default | trained["network"]}
    except Exception as error:  # what a broken file raises depends on the break
        raise UserError(
            f"{field}={path} ({path.stat().st_size} bytes) is not a whole checkpoint of this "
            "program: it may be cut short; use another one"
        ) from error


def require_matching_checkpoint(cfg: DictConfig, field: str = "ckpt_path") -> None:
    """Looks into a checkpoint before it is used.

    Args:
        cfg: the composed config.
        field: which of its fields names the checkpoint.

    Raises:
        UserError: it cannot be read, or was made for another family of tasks or another network.
    """
    trained = read_settings(cfg, field)
    for group in ("env", "network"):
        settings = OmegaConf.create(trained[group])
        for key, (theirs, ours) in differences(settings, cfg[group]).items():
            if group == "env" and key != "_target_" and takes_other_sizes(cfg, field):
                continue
            raise UserError(
                f"{field}={cfg[field]} was trained with {group}.{key}={theirs}, "
                f"this run has {ours}: set {group}.{key}={theirs} or give another checkpoint"
            )


def takes_other_sizes(cfg: DictConfig, field: str) -> bool:
    """Whether a checkpoint may come from other tasks of the family than those of this run."""
    return field == "start_from" or bool(cfg.mode == "test" and cfg.evaluation.other_sizes)


def require_fitting_weights(learner: Learner, cfg: DictConfig, field: str) -> None:
    """Compares a checkpoint's weights with the agent that is to take them.

    Args:
        learner: with the agent.
        cfg: the composed config.
        field: which of its fields names the checkpoint.

    Raises:
        UserError: one has another shape.
    """
    theirs = torch.load(cfg[field], map_location="cpu", weights_only=True, mmap=True)
    for name, weight in learner.state_dict().items():
        shape = theirs["state_dict"][name].shape
        if shape != weight.shape:
            raise UserError(
                f"{field}={cfg[field]} has {name} of shape {list(shape)}, where this run has "
                f"{list(weight.shape)}: it was trained on observations, actions or tasks of "
                "another size; change only fields of env that leave these alone"
            )


def differences(theirs: DictConfig, ours: DictConfig) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configs differ, by dotted name; "null" is what one lacks."""

    def flat(node: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(node, DictConfig):
            return {prefix: "null" if node is None else node}
        names = [str(key) for key in node]
        parts = [flat(node[name], f"{prefix}.{name}" if prefix else name) for name in names]
        return {name: value for part in parts for name, value in part.items()}

    left, right = flat(theirs), flat(ours)
    names = sorted(left.keys() | right.keys())
    pairs = {name: (left.get(name, "null"), right.get(name, "null")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
