"""A training run from its first iteration, or from a checkpoint, to its last checkpoint."""

import logging
import math
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import starts_from_weights
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.learner import Learner
from rl2_lightning.learners.resumption import Resumption
from rl2_lightning.stored import is_of_learner, require_matching_checkpoint

TALKATIVE_LOGGERS = (
    "torchrl",
    "lightning.fabric",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities.rank_zero",
)

# What Lightning says of data loaders that make no sense of trials, and of its own workings.
IRRELEVANT_WARNINGS = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*The dirpath has changed.*",
    ".*Be aware that when using `ckpt_path`.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # the same number on every rank
    ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
)


def quieten() -> None:
    """Keeps the libraries' notices about themselves off the console."""
    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", pattern)


def require_checkpoints(cfg: DictConfig) -> Checkpoint | None:
    """The checkpoint that a run begins with, to resume, to test, or to take weights from.

    Returns:
        The checkpoint; None where the config names none.

    Raises:
        UserError: it cannot be read, or does not fit the run.
    """
    if starts_from_weights(cfg):
        return require_matching_checkpoint(cfg, "start_from")
    return None if cfg.ckpt_path is None else require_matching_checkpoint(cfg)


def take_weights(learner: Learner, checkpoint: Checkpoint, cfg: DictConfig) -> None:
    """Gives a learner what it can have of a checkpoint.

    To test and to begin anew the agent alone is needed; what else was learnt is taken where it is
    of the same learner, and fits.

    Args:
        learner: of the run.
        checkpoint: that the run begins with.
        cfg: the composed config.

    Raises:
        UserError: the weights do not fit.
    """
    if cfg.mode == "train" and cfg.ckpt_path is not None:
        checkpoint.require_fitting(learner)  # Lightning takes them, when it takes the rest
        return
    checkpoint.require_fitting(learner.agent, prefix="agent.")
    parts = None if is_of_learner(cfg, checkpoint) else ("agent", "clock")
    fitting, left_out = checkpoint.fitting_state(learner, parts)
    state = {**learner.state_dict(), **fitting}
    if not starts_from_weights(cfg):
        learner.load_state_dict(state)
        return
    if left_out:
        warnings.warn(
            f"start_from={cfg.start_from} has no {', '.join(left_out)} of this learner: begun anew",
            stacklevel=2,
        )
    learner.take_weights(state)


def restore_callbacks(trainer: pl.Trainer, checkpoint: Checkpoint) -> None:
    """Gives callbacks of a test what they have kept of the training."""
    kept = checkpoint.content["callbacks"]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if callback.state_key in kept:
            callback.load_state_dict(kept[callback.state_key])


def fit(
    trainer: pl.Trainer,
    learner: Learner,
    data: TrialDataModule,
    cfg: DictConfig,
    checkpoint: Checkpoint | None = None,
) -> Path | None:
    """Trains to the end of the budget.

    Args:
        trainer: Lightning's.
        learner: who learns.
        data: the trials.
        cfg: the composed config.
        checkpoint: that the training is resumed from, if it is.

    Returns:
        The checkpoint of the last iteration; None where there was no iteration left to train, or
        no callback saves one: then the learner itself is all there is.

    Raises:
        NonFiniteLossError: names the last good checkpoint.
        UserError: the checkpoint cannot be resumed from.
        SystemExit: the run was stopped by a signal; it is saved.
    """
    # Ranks that were started one by one have output folders of their own.
    last = Path(trainer.strategy.broadcast(cfg.output_dir)) / "last.ckpt"
    resumption = None
    if cfg.ckpt_path is not None and checkpoint is not None:
        resumption = Resumption(checkpoint, f"ckpt_path={cfg.ckpt_path}")
        trainer.callbacks.append(resumption)  # type: ignore[attr-defined]
    try:
        trainer.fit(learner, data, ckpt_path=cfg.ckpt_path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(" ".join(str(error).split())) from error
    except NonFiniteLossError as error:
        kept = last if last.exists() else cfg.ckpt_path
        where = f"resume with ckpt_path={kept}" if kept else "there is no checkpoint yet"
        raise NonFiniteLossError(f"{error}; {where}") from error
    except Exception as error:  # what Lightning raises of a state depends on the state
        if isinstance(error, UserError) or resumption is None or resumption.is_done:
            raise
        raise resumption.error(f"{type(error).__name__}: {error}") from error
    if trainer.current_epoch < (trainer.max_epochs or 0):
        sys.exit(f"stopped after iteration {trainer.current_epoch}; resume with ckpt_path={last}")
    return last if last.exists() else None


def test_return(trainer: pl.Trainer) -> float:
    """The mean return of a trial on the test's tasks, played greedily; nan if nobody measured."""
    measured = trainer.callback_metrics.get("test/return_greedy")
    return math.nan if measured is None else float(measured)
