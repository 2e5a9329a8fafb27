"""How a run ends other than by its own end: in one line that says how to go on."""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from rl2_lightning.callbacks.monitors import unknown_monitor
from rl2_lightning.errors import FailedEnvironmentError, NonFiniteLossError, UserError
from rl2_lightning.learners.resumption import Resumption
from rl2_lightning.run_folder import LAST_CHECKPOINT, SUMMARY, begin_run, is_gone

# Errors of gloo and NCCL after another rank has ended.
LOST_RANK = re.compile(r"by peer|gloo/transport|ncclRemoteError|NCCL communicator was aborted")


@contextmanager
def ends_in_a_line(
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
        if not is_too_late(cfg):
            sys.exit(f"stopped {where()}; {remedy(cfg, way)}")
    except (FailedEnvironmentError, NonFiniteLossError) as error:
        raise type(error)(f"{error}; {remedy(cfg)}") from error
    except OSError as error:
        raise UserError(f"{_of_file(error, cfg)}; {remedy(cfg)}") from error
    finally:
        threading.excepthook = hook


def line_of(
    error: Exception, trainer: pl.Trainer, cfg: DictConfig, resumption: Resumption | None
) -> UserError | None:
    """An error of Lightning's or PyTorch's as the user's; None if it is not."""
    text = " ".join(str(error).split())
    if LOST_RANK.search(text):
        return UserError(f"another process of this run has ended, see its error; {remedy(cfg)}")
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


def where_stopped(trainer: pl.Trainer) -> str:
    """Where a training was stopped."""
    progress = trainer.fit_loop.epoch_progress.current
    if not progress.ready:
        return "before the first iteration"
    done = progress.completed
    return f"after iteration {done}" if done == progress.ready else f"in iteration {done + 1}"


def is_too_late(cfg: DictConfig) -> bool:
    """Whether a signal finds nothing left to stop: no test, and no other job of a sweep."""
    sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return not sweep and (Path(cfg.output_dir) / SUMMARY).exists()


def remedy(cfg: DictConfig, way: str = "resume with ") -> str:
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
