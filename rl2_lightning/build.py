"""Build the objects of a run from a checked config."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.agents.spec import AgentSpec
from rl2_lightning.allocator import keep_freed_memory
from rl2_lightning.callbacks.outcome import require_evaluation
from rl2_lightning.config import (
    CollectionConfig,
    EvaluationConfig,
    TrialConfig,
    num_ranks,
)
from rl2_lightning.config_checks import require_devices
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.data.seeding import Purpose, derive_seed
from rl2_lightning.data.spaces import actions_of, observations_of
from rl2_lightning.data.world import World
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.families.execution import Execution, num_cores
from rl2_lightning.families.rehearsal import contract_of, rehearse
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.checkpoint_io import SafeCheckpointIO
from rl2_lightning.learners.learner import Learner, LearnerSettings, RunShape
from rl2_lightning.learners.manual import ManualLearner
from rl2_lightning.parts import find_class, read_settings
from rl2_lightning.plugins import build_plugins


def require_machine(cfg: DictConfig) -> None:
    """Check that the machine has the requested devices; on a CPU Lightning starts any number.

    Raises:
        UserError: there are fewer devices than the config asks for.
    """
    accelerator, wanted = cfg.trainer.accelerator, cfg.trainer.devices
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        require_devices(wanted, torch.cuda.device_count(), "GPU")
    elif accelerator == "auto" and not torch.backends.mps.is_available():
        require_devices(wanted, os.cpu_count() or 1, "CPU core")


def build_world(cfg: DictConfig) -> World:
    """The family of tasks and the trials that the config names.

    Raises:
        UserError: the family's settings are invalid, or it does not keep to its contract.
    """
    family = find_class(cfg, "env", TaskEnv)
    settings = read_settings(cfg, "env", family.Settings)
    execution = _execution(cfg, family)

    def make_task_env(num_tasks: int, device: torch.device | str, **options: Any) -> TaskEnv:
        make = cast(Any, family)
        with contract_of(f"{family.__name__}.__init__"):
            env: TaskEnv = make(num_tasks=num_tasks, device=device, **vars(settings), **options)
        return env

    # In this process, where a mistake is found sooner.
    rehearsed = make_task_env(2, "cpu")
    try:
        rehearse(rehearsed)
    finally:
        rehearsed.close()
    trial = cast(TrialConfig, OmegaConf.to_object(cfg.trial))
    return World(partial(make_task_env, **execution), trial)


def _execution(cfg: DictConfig, family: type[TaskEnv]) -> dict[str, Any]:
    """Where the family is played, as the argument of its constructor; empty without a choice.

    Raises:
        UserError: the family cannot be played there.
    """
    collection = cfg.collection
    if collection.backend not in family.backends:
        raise UserError(
            f"collection.backend={collection.backend} with {family.__name__}, which can be played "
            f"with {' or '.join(family.backends)}: set collection.backend={family.backends[0]}"
        )
    if len(family.backends) == 1:
        return {}
    num_ranks = int(cfg.trainer.devices)
    num_workers = collection.num_workers or max(1, num_cores() // num_ranks)
    timeout = collection.worker_timeout
    return {"execution": Execution(collection.backend, num_workers, timeout, num_ranks)}


def build_data(cfg: DictConfig) -> TrialDataModule:
    """The data module: trials of the configured family, with the configured lengths and seeds."""
    world = build_world(cfg)
    return TrialDataModule(
        world,
        cast(CollectionConfig, OmegaConf.to_object(cfg.collection)),
        build_held_out(cfg, world),
        cfg.seed,
    )


def build_held_out(cfg: DictConfig, world: World) -> dict[str, HeldOut]:
    """The held-out tasks of validation and test, by name."""
    evaluation = cast(EvaluationConfig, OmegaConf.to_object(cfg.evaluation))
    sets = {
        "validation": (Purpose.VALIDATION_TASKS, evaluation.validation_tasks),
        "test": (Purpose.TEST_TASKS, evaluation.test_tasks),
    }
    return {
        name: HeldOut(world, purpose, num_tasks, evaluation.tasks_seed, evaluation.batch_size)
        for name, (purpose, num_tasks) in sets.items()
    }


def build_agent(cfg: DictConfig, world: World) -> Agent:
    """The agent, with weights drawn from the run's seed.

    Raises:
        UserError: its settings contradict each other or the lengths of trials and windows.
    """
    torch.manual_seed(derive_seed(Purpose.NETWORK, cfg.seed))
    memory_class = find_class(cfg, "memory", Memory)
    specimen = world.specimen
    spec = AgentSpec(
        observations_of(specimen.observation_spec_unbatched[keys.OBSERVATION]),
        actions_of(specimen.action_spec_unbatched),
        cast(AgentSettings, OmegaConf.to_object(cfg.agent)),
        memory_class,
        vars(read_settings(cfg, "memory", memory_class.Settings)),
    )
    agent = Agent(spec)
    agent.memory.require_steps(specimen.max_steps)
    if cfg.collection.burn_in and not agent.initial_state(1):
        raise UserError(
            f"collection.burn_in={cfg.collection.burn_in} for a memory without a state: set "
            "collection.burn_in=0"
        )
    return agent


def build_learner(cfg: DictConfig, data: TrialDataModule) -> Learner:
    """The learner with its agent; its checkpoints store the config."""
    learner_class = find_class(cfg, "learner", Learner)
    settings = cast(LearnerSettings, read_settings(cfg, "learner", learner_class.Settings))
    settings.check_run(_run_shape(cfg, data.world.specimen))
    task_env = data.world.specimen.task_env
    task = task_env.sample_tasks(1)[0].flatten_keys()
    learner = learner_class(
        build_agent(cfg, data.world),
        settings,
        plan=data.plan,
        task_sizes={name: parameter.numel() for name, parameter in task.items()},
        **({"places": task_env.places} if learner_class.reads_places else {}),
    )
    learner.save_hyperparameters(OmegaConf.to_container(cfg, resolve=True))
    return learner


def _run_shape(cfg: DictConfig, specimen: TrialEnv) -> RunShape:
    collection = cast(CollectionConfig, OmegaConf.to_object(cfg.collection))
    stages = {
        f"collection.curriculum.{name}.num_trials": stage.num_trials
        for name, stage in collection.stages.items()
    }
    num_trials = {"collection.num_trials": collection.num_trials, **stages}
    has_means = type(specimen.task_env).expected_reward is not TaskEnv.expected_reward
    return RunShape(
        num_trials,
        num_ranks(cfg),
        cfg.trainer.precision,
        trial_steps=specimen.max_steps,
        continues=specimen.continues,
        expected_rewards=collection.expected_rewards and has_means,
    )


def build_trainer(cfg: DictConfig, data: TrialDataModule, learner: Learner) -> pl.Trainer:
    """Lightning's trainer: devices, precision, checkpoints, loggers and callbacks.

    Raises:
        UserError: the machine lacks what the config asks for, or callbacks lack one that they need.
    """
    keep_freed_memory()
    settings: dict[str, Any] = dict(cfg.trainer)
    learner.uses_graphs = settings.pop("cuda_graphs")
    allows_tf32 = settings.pop("tf32")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allows_tf32
    settings["max_epochs"] = min(
        settings["max_epochs"] or data.plan.num_iterations, data.plan.num_iterations
    )
    if isinstance(learner, ManualLearner):
        # Lightning clips gradients only in automatic optimisation and rejects the argument here.
        learner.gradient_clip_val = settings.pop("gradient_clip_val")
        if num_ranks(cfg) > 1 and settings["strategy"] in ("auto", "ddp"):
            # With several optimisers, one loss leaves the parameters of the others without
            # gradients.
            settings["strategy"] = "ddp_find_unused_parameters_true"
    names = [str(name) for name, node in cfg.callbacks.items() if node is not None]
    callbacks = build_plugins(cfg, "callbacks", pl.Callback)
    require_evaluation(dict(zip(names, callbacks, strict=True)))
    try:
        return pl.Trainer(
            **settings,
            callbacks=callbacks,
            # Otherwise Lightning adds its own.
            enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
            enable_progress_bar=any(isinstance(one, ProgressBar) for one in callbacks),
            logger=build_plugins(cfg, "logger", Logger),
            plugins=[SafeCheckpointIO()],
            default_root_dir=cfg.output_dir,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        raise UserError(_why_no_trainer(settings, str(error))) from error


def _why_no_trainer(settings: Mapping[str, Any], reason: str) -> str:
    """Lightning's reason in one line, with the settings that it mentions."""
    reason = " ".join(reason.split()).rstrip(".!")
    spoken_of = [
        f"trainer.{name}={value}"
        for name, value in settings.items()
        if isinstance(value, str) and value != "auto" and (value in reason or name in reason)
    ]
    culprits = " ".join(spoken_of) or "trainer.*"
    return f"{culprits} cannot be used: {reason}; change it, or leave it out"
