"""The training and the test of a run, from its start or from a checkpoint."""

import logging
import math
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig
from rich import get_console

from rl2_lightning.callbacks.csv_metrics import CSVMetrics
from rl2_lightning.callbacks.monitors import unknown_monitor
from rl2_lightning.callbacks.outcome import callbacks_of
from rl2_lightning.callbacks.preemption import Preemption
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import starts_from_weights
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.errors import FailedEnvironmentError, NonFiniteLossError, UserError
from rl2_lightning.learners.learner import Learner
from rl2_lightning.learners.resumption import Resumption
from rl2_lightning.run_folder import LAST_CHECKPOINT, SUMMARY, begin_run, is_gone, rank_of_process
from rl2_lightning.stored import has_same_parts, is_of_learner, require_matching_checkpoint

TALKATIVE_LOGGERS = (
    "torchrl",
    "lightning.fabric",
    "lightning.pytorch.accelerators.cuda",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities.rank_zero",
)

# Errors of gloo and NCCL after another rank has ended.
LOST_RANK = re.compile(r"by peer|gloo/transport|ncclRemoteError|NCCL communicator was aborted")

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
        UserError: the checkpoint cannot be resumed from, or a file cannot be written.
        SystemExit: the run was stopped by a signal.
    """
    resumption = None
    if cfg.ckpt_path is not None and checkpoint is not None:
        _require_iterations_left(checkpoint, cfg, data.plan)
        resumption = Resumption(checkpoint, f"ckpt_path={cfg.ckpt_path}")
        callbacks_of(trainer).append(resumption)
        _continue_tables(trainer, checkpoint)
    try:
        with _ends_in_a_line(cfg, lambda: _where(trainer)):
            trainer.fit(learner, data, ckpt_path=cfg.ckpt_path, weights_only=True)
    except Exception as error:
        told = _line_of(error, trainer, cfg, resumption)
        if told is None:
            raise
        raise told from error
    saved = any(isinstance(one, Preemption) and one.preempted for one in callbacks_of(trainer))
    if saved or trainer.received_sigterm:
        sys.exit(f"stopped {_where(trainer)}; {_remedy(cfg)}")


@contextmanager
def _ends_in_a_line(
    cfg: DictConfig, where: Callable[[], str], way: str = "resume with "
) -> Iterator[None]:
    """Say in one line how to go on after a signal, or an error that is not the program's own.

    Lightning ends the process without a word at Ctrl-C and SIGTERM. A signal after the summary has
    been written comes too late to stop anything.

    Args:
        cfg: the composed config.
        where: returns where a signal has stopped the run.
        way: how to continue from a checkpoint.

    Raises:
        FailedEnvironmentError: an environment failed.
        NonFiniteLossError: a quantity is not finite.
        UserError: a file cannot be written.
        SystemExit: the run was stopped by a signal.
    """
    begin_run()
    hook = threading.excepthook
    threading.excepthook = _report_thread
    try:
        yield
    except SystemExit as end:
        if not isinstance(end, SIGTERMException) and end.code != 1:
            raise
        if not _is_too_late(cfg):
            sys.exit(f"stopped {where()}; {_remedy(cfg, way)}")
    except (FailedEnvironmentError, NonFiniteLossError) as error:
        raise type(error)(f"{error}; {_remedy(cfg)}") from error
    except OSError as error:
        raise UserError(f"{_of_file(error, cfg)}; {_remedy(cfg)}") from error
    finally:
        threading.excepthook = hook


def _line_of(
    error: Exception, trainer: pl.Trainer, cfg: DictConfig, resumption: Resumption | None
) -> UserError | None:
    """An error of Lightning's or PyTorch's as the user's; None if it is not."""
    text = " ".join(str(error).split())
    if LOST_RANK.search(text):
        return UserError(f"another process of this run has ended, see its error; {_remedy(cfg)}")
    if isinstance(error, UserError):
        return None
    if (line := unknown_monitor(trainer, cfg.callbacks, text)) is not None:
        return UserError(line)
    if isinstance(error, MisconfigurationException):
        return UserError(text)
    if resumption is None or resumption.is_done:
        return None
    # A damaged state can raise any exception in Lightning.
    return resumption.error(f"{type(error).__name__}: {text}")


def _report_thread(args: threading.ExceptHookArgs) -> None:
    """Print the error of a thread; TensorBoard's writer passes those of files on to the program."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


def _where(trainer: pl.Trainer) -> str:
    """Where a training was stopped."""
    progress = trainer.fit_loop.epoch_progress.current
    if not progress.ready:
        return "before the first iteration"
    done = progress.completed
    return f"after iteration {done}" if done == progress.ready else f"in iteration {done + 1}"


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
    with _ends_in_a_line(cfg, lambda: "in the test", way):
        trainer.test(learner, data, verbose=False)
    if trainer.received_sigterm and not _is_too_late(cfg):
        sys.exit(f"stopped in the test; {_remedy(cfg, way)}")
    measured = trainer.callback_metrics.get("test/return_greedy")
    return math.nan if measured is None else float(measured)


def _is_too_late(cfg: DictConfig) -> bool:
    """Whether a signal finds nothing left to stop: no test, and no other job of a sweep."""
    sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return not sweep and (Path(cfg.output_dir) / SUMMARY).exists()


def _restore_callbacks(trainer: pl.Trainer, checkpoint: Checkpoint) -> None:
    """Restore the callbacks' states from the training, for a test."""
    kept = checkpoint.content["callbacks"]
    for callback in callbacks_of(trainer):
        if callback.state_key in kept:
            callback.load_state_dict(kept[callback.state_key])


def _remedy(cfg: DictConfig, way: str = "resume with ") -> str:
    """How to continue from the last good checkpoint."""
    last = Path(cfg.output_dir) / LAST_CHECKPOINT
    known = [last] if cfg.mode == "train" else []
    known += [] if cfg.ckpt_path is None else [Path(cfg.ckpt_path)]
    kept = next((path for path in known if path.exists()), None)
    return f"{way}ckpt_path={kept}" if kept else "there is no checkpoint yet"


def _of_file(error: OSError, cfg: DictConfig) -> str:
    if is_gone(cfg.output_dir):
        return f"output_dir={cfg.output_dir} was removed during the run"
    place = os.fsdecode(error.filename) if error.filename else "a file of the run"
    return f"{place} cannot be written ({error.strerror or error})"
