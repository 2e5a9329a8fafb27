"""The training and the test of a run, from its start or from a checkpoint."""

import logging
import math
import sys
import warnings

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig
from rich import get_console

from rl2_lightning.allocator import frozen_objects
from rl2_lightning.callbacks.csv_metrics import CSVMetrics
from rl2_lightning.callbacks.outcome import callbacks_of
from rl2_lightning.callbacks.preemption import Preemption
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import starts_from_weights
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.endings import ends_in_a_line, is_too_late, line_of, remedy, where_stopped
from rl2_lightning.errors import UserError
from rl2_lightning.learners.learner import Learner
from rl2_lightning.learners.resumption import Resumption
from rl2_lightning.precision import require_useful_precision
from rl2_lightning.run_folder import rank_of_process
from rl2_lightning.stored import has_same_parts, is_of_learner, require_matching_checkpoint

TALKATIVE_LOGGERS = (
    "torchrl",
    "lightning.fabric",
    "lightning.pytorch.accelerators.cuda",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities.rank_zero",
)

# Lightning's warnings about data loaders that do not apply to trials, and about its internals.
IRRELEVANT_WARNINGS = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*The dirpath has changed.*",
    ".*Be aware that when using `ckpt_path`.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # the same number on every rank
    ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
)


def quieten() -> None:
    """Keep the libraries' notices about themselves off the console."""
    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", pattern)


def read_checkpoint(cfg: DictConfig) -> Checkpoint | None:
    """The checkpoint that a run starts from, to resume it, test it, or take its weights.

    Returns:
        The checkpoint; None if the config names none.

    Raises:
        UserError: it cannot be read, or does not fit the run.
    """
    if starts_from_weights(cfg):
        return require_matching_checkpoint(cfg, "start_from")
    return None if cfg.ckpt_path is None else require_matching_checkpoint(cfg)


def take_weights(learner: Learner, checkpoint: Checkpoint, cfg: DictConfig) -> None:
    """Load into a learner what it can use of a checkpoint.

    A test or a new training needs only the agent. Other weights are taken if they come from the
    same learner and fit.

    Args:
        learner: learner of the run.
        checkpoint: the checkpoint that the run starts from.
        cfg: the composed config.

    Raises:
        UserError: the weights do not fit.
    """
    if cfg.mode == "train" and cfg.ckpt_path is not None:
        checkpoint.require_fitting(learner)  # Lightning loads them with the rest
        return
    checkpoint.require_fitting(learner.agent, prefix="agent.")
    if starts_from_weights(cfg) and has_same_parts(cfg, checkpoint, "start_from"):
        checkpoint.require_fitting(learner)  # what does not fit is damaged
    parts = None if is_of_learner(cfg, checkpoint) else ("agent", "clock")
    fitting, left_out = checkpoint.fitting_state(learner, parts)
    state = {**learner.state_dict(), **fitting}
    if not starts_from_weights(cfg):
        learner.load_state_dict(state)
        return
    if left_out:
        warnings.warn(
            f"start_from={cfg.start_from} has no {', '.join(left_out)} of this learner: "
            "starting anew",
            stacklevel=2,
        )
    learner.take_weights(state)


def fit(
    trainer: pl.Trainer,
    learner: Learner,
    data: TrialDataModule,
    cfg: DictConfig,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train to the end of the budget, or until a callback stops the run.

    Args:
        trainer: Lightning's trainer.
        learner: the learner to train.
        data: the trials.
        cfg: the composed config.
        checkpoint: the checkpoint that the training is resumed from, if any.

    Raises:
        NonFiniteLossError: a quantity is not finite; names the last good checkpoint.
        UserError: the checkpoint cannot be resumed from, the precision is of no use on this
            machine, or a file cannot be written.
        SystemExit: the run was stopped by a signal.
    """
    if rank_of_process() == 0:  # which starts the others, or ends them with it
        device, max_steps = trainer.strategy.root_device, data.world.specimen.max_steps
        require_useful_precision(cfg.trainer.precision, learner.agent, device, max_steps)
    if learner.uses_graphs:
        require_recordable(learner, trainer.strategy.root_device)
    resumption = None
    if cfg.ckpt_path is not None and checkpoint is not None:
        _require_iterations_left(checkpoint, cfg, data.plan)
        resumption = Resumption(checkpoint, f"ckpt_path={cfg.ckpt_path}")
        callbacks_of(trainer).append(resumption)
        _continue_tables(trainer, checkpoint)
    try:
        with ends_in_a_line(cfg, lambda: where_stopped(trainer)), frozen_objects():
            trainer.fit(learner, data, ckpt_path=cfg.ckpt_path, weights_only=True)
    except Exception as error:
        told = line_of(error, trainer, cfg, resumption)
        if told is None:
            raise
        raise told from error
    saved = any(isinstance(one, Preemption) and one.preempted for one in callbacks_of(trainer))
    if saved or trainer.received_sigterm:
        sys.exit(f"stopped {where_stopped(trainer)}; {remedy(cfg)}")


def require_recordable(learner: Learner, device: torch.device) -> None:
    """Check that a run's operations can be recorded as CUDA graphs.

    Raises:
        UserError: the learner computes some of its numbers in Python, or there is no GPU.
    """
    if not vars(type(learner)).get("can_be_recorded", False):
        raise UserError(
            f"trainer.cuda_graphs=true with {type(learner).__name__}, which computes some of its "
            "numbers in Python: set trainer.cuda_graphs=false, or learner=ppo"
        )
    if device.type != "cuda":
        raise UserError(
            f"trainer.cuda_graphs=true on a {device.type.upper()}: only the operations of a GPU "
            "can be recorded; set trainer.cuda_graphs=false"
        )


def _continue_tables(trainer: pl.Trainer, checkpoint: Checkpoint) -> None:
    for logger in trainer.loggers:
        if trainer.is_global_zero and isinstance(logger, CSVMetrics):
            logger.continue_from(int(checkpoint.state_dict["clock.env_steps_done"]))


def _require_iterations_left(checkpoint: Checkpoint, cfg: DictConfig, plan: CollectionPlan) -> None:
    """Reject a run without iterations left, unless its budget is spent: then it is only tested.

    Raises:
        UserError: the checkpoint has reached `trainer.max_epochs`.
    """
    done, most = int(checkpoint.state_dict["clock.iterations_done"]), cfg.trainer.max_epochs
    trained = f"ckpt_path={cfg.ckpt_path} has been trained for {done} iteration{'s'[: done != 1]}"
    if done >= plan.num_iterations:
        if rank_of_process() == 0:
            line = f"{trained}, the whole budget: it is only tested; to train on, raise "
            get_console().print(f"{line}collection.total_env_steps", soft_wrap=True)
    elif most is not None and most <= done:
        raise UserError(
            f"{trained}, and trainer.max_epochs={most} allows no more: raise it, or set "
            "trainer.max_epochs=null for the whole budget"
        )


def closing_test(
    trainer: pl.Trainer,
    learner: Learner,
    data: TrialDataModule,
    cfg: DictConfig,
    checkpoint: Checkpoint | None = None,
) -> float:
    """Test the learner's weights.

    Args:
        trainer: Lightning's trainer.
        learner: the learner after training, or with the checkpoint's weights.
        data: the trials.
        cfg: the composed config.
        checkpoint: the checkpoint that the run started from, if any.

    Returns:
        The mean return of a trial in greedy play; nan if no callback measured it.

    Raises:
        NonFiniteLossError: a quantity is not finite; names the last good checkpoint.
        UserError: a file cannot be written.
        SystemExit: the test was stopped by a signal.
    """
    if cfg.mode == "test" and checkpoint is not None:
        _restore_callbacks(trainer, checkpoint)
    way = "test it with mode=test "
    with ends_in_a_line(cfg, lambda: "in the test", way):
        trainer.test(learner, data, verbose=False)
    if trainer.received_sigterm and not is_too_late(cfg):
        sys.exit(f"stopped in the test; {remedy(cfg, way)}")
    measured = trainer.callback_metrics.get("test/return_greedy")
    return math.nan if measured is None else float(measured)


def _restore_callbacks(trainer: pl.Trainer, checkpoint: Checkpoint) -> None:
    """Restore the callbacks' states from the training, for a test."""
    kept = checkpoint.content["callbacks"]
    for callback in callbacks_of(trainer):
        if callback.state_key in kept:
            callback.load_state_dict(kept[callback.state_key])
