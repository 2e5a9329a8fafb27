"""A training run from its first iteration, or from a checkpoint, to its last checkpoint."""

import logging
import math
import re
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from rl2_lightning.callbacks.outcome import callbacks_of
from rl2_lightning.callbacks.preemption import Preemption
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import starts_from_weights
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.learner import Learner
from rl2_lightning.learners.resumption import Resumption
from rl2_lightning.run_folder import LAST_CHECKPOINT
from rl2_lightning.stored import is_of_learner, require_matching_checkpoint

TALKATIVE_LOGGERS = (
    "torchrl",
    "lightning.fabric",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities.rank_zero",
)

# What gloo and NCCL say where another rank is gone.
LOST_RANK = re.compile(r"by peer|gloo/transport|ncclRemoteError|NCCL communicator was aborted")

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


def read_checkpoint(cfg: DictConfig) -> Checkpoint | None:
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


def fit(
    trainer: pl.Trainer,
    learner: Learner,
    data: TrialDataModule,
    cfg: DictConfig,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Trains to the end of the budget, or to where a callback ends it.

    Args:
        trainer: Lightning's.
        learner: who learns.
        data: the trials.
        cfg: the composed config.
        checkpoint: that the training is resumed from, if it is.

    Raises:
        NonFiniteLossError: names the last good checkpoint.
        UserError: the checkpoint cannot be resumed from, or a file cannot be written.
        SystemExit: the run was stopped by a signal; it is saved.
    """
    resumption = None
    if cfg.ckpt_path is not None and checkpoint is not None:
        _require_iterations_left(checkpoint, cfg, data.plan)
        resumption = Resumption(checkpoint, f"ckpt_path={cfg.ckpt_path}")
        callbacks_of(trainer).append(resumption)
    try:
        trainer.fit(learner, data, ckpt_path=cfg.ckpt_path, weights_only=True)
    except SystemExit as end:
        _require_no_interrupt(end, f"stopped before the first iteration; {_remedy(cfg)}")
        raise
    except MisconfigurationException as error:
        raise UserError(" ".join(str(error).split())) from error
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error}; {_remedy(cfg)}") from error
    except OSError as error:
        raise UserError(f"{_of_file(error)}; {_remedy(cfg)}") from error
    except Exception as error:  # what Lightning raises of a state depends on the state
        if LOST_RANK.search(str(error)):
            raise UserError(
                f"another process of this run has ended, see what it said; {_remedy(cfg)}"
            ) from error
        if isinstance(error, UserError) or resumption is None or resumption.is_done:
            raise
        raise resumption.error(f"{type(error).__name__}: {error}") from error
    if any(isinstance(one, Preemption) and one.preempted for one in callbacks_of(trainer)):
        sys.exit(f"stopped after iteration {trainer.current_epoch}; {_remedy(cfg)}")


def _require_iterations_left(checkpoint: Checkpoint, cfg: DictConfig, plan: CollectionPlan) -> None:
    """A run that stops where it begins is not what anybody means; at its budget's end it is tested.

    Raises:
        UserError: the checkpoint has reached `trainer.max_epochs`.
    """
    done, most = int(checkpoint.state_dict["clock.iterations_done"]), cfg.trainer.max_epochs
    if most is not None and most <= done < plan.num_iterations:
        raise UserError(
            f"ckpt_path={cfg.ckpt_path} has been trained for {done} iterations, and "
            f"trainer.max_epochs={most} allows no more: raise it, or set trainer.max_epochs=null "
            "for the whole budget"
        )


def closing_test(
    trainer: pl.Trainer,
    learner: Learner,
    data: TrialDataModule,
    cfg: DictConfig,
    checkpoint: Checkpoint | None = None,
) -> float:
    """Tests the weights that the learner holds.

    Args:
        trainer: Lightning's.
        learner: who was trained, or has taken the weights of the checkpoint.
        data: the trials.
        cfg: the composed config.
        checkpoint: that the run began with, if it did.

    Returns:
        The mean return of a trial, played greedily; nan if nobody measured.

    Raises:
        NonFiniteLossError: names the last good checkpoint.
        UserError: a file cannot be written.
        SystemExit: the test was stopped by a signal.
    """
    if cfg.mode == "test" and checkpoint is not None:
        _restore_callbacks(trainer, checkpoint)
    stopped = f"stopped in the test; {_remedy(cfg, 'test it with mode=test ')}"
    try:
        trainer.test(learner, data, verbose=False)
    except SIGTERMException:
        sys.exit(stopped)
    except SystemExit as end:
        _require_no_interrupt(end, stopped)
        raise
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error}; {_remedy(cfg)}") from error
    except OSError as error:
        raise UserError(f"{_of_file(error)}; {_remedy(cfg)}") from error
    if trainer.received_sigterm:
        sys.exit(stopped)
    measured = trainer.callback_metrics.get("test/return_greedy")
    return math.nan if measured is None else float(measured)


def _require_no_interrupt(end: SystemExit, said: str) -> None:
    """Ctrl-C, at which Lightning ends the process without a word, gets one.

    Raises:
        SystemExit: with it.
    """
    if end.code == 1:
        sys.exit(said)


def _restore_callbacks(trainer: pl.Trainer, checkpoint: Checkpoint) -> None:
    """Gives callbacks of a test what they have kept of the training."""
    kept = checkpoint.content["callbacks"]
    for callback in callbacks_of(trainer):
        if callback.state_key in kept:
            callback.load_state_dict(kept[callback.state_key])


def _remedy(cfg: DictConfig, way: str = "resume with ") -> str:
    """What to do with the last good checkpoint."""
    last = Path(cfg.output_dir) / LAST_CHECKPOINT
    kept = last if cfg.mode == "train" and last.exists() else cfg.ckpt_path
    return f"{way}ckpt_path={kept}" if kept else "there is no checkpoint yet"


def _of_file(error: OSError) -> str:
    place = error.filename or "a file of the run"
    return f"{place} cannot be written ({error.strerror or error})"
