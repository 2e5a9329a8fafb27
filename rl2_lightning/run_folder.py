"""The folder of a run, which no other run can use."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from rl2_lightning.errors import UserError

Handler = Callable[[int, FrameType | None], Any] | int | None

LAST_CHECKPOINT = "last.ckpt"
SUMMARY = "summary.json"  # written last: a folder with it holds a finished run
CONFIG = "config.yaml"
OVERRIDES = "overrides.txt"
LOCK = ".lock"
UNFINISHED = ".unfinished"

_made: set[Path] = set()  # folders that this process has made and no run has used yet
_found_empty: set[Path] = set()  # folders that were empty before a run wrote to them
_claimed: set[Path] = set()  # folders of the runs of this process


def rank_of_process() -> int:
    """The rank of this process in the run, from the environment variables of its launcher."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def new_folder(path: str) -> str:
    """Make a folder that no other run has, even if several start in the same second.

    Args:
        path: path of the folder; `_2` and so on is appended if it exists.

    Raises:
        UserError: it cannot be made.
    """
    if rank_of_process() > 0:
        return path  # the first process makes it
    parent = Path(path).parent
    try:
        # Alone, since an error about the parent would look like a name that is taken.
        parent.mkdir(parents=True, exist_ok=True)
        place = _first_free(path)
    except OSError as error:
        raise UserError(_why_no_folder(parent, error)) from error
    _made.add(place)
    return str(place)


def _first_free(path: str) -> Path:
    for number in count(1):
        place = Path(path if number == 1 else f"{path}_{number}")
        with suppress(FileExistsError):
            place.mkdir()
            return place
    raise AssertionError("there are always more numbers")


def _why_no_folder(parent: Path, error: OSError) -> str:
    for place in (parent, *parent.parents):
        if os.path.lexists(place) and not place.is_dir():
            kind = "a link to nothing" if place.is_symlink() else "a file"
            return (
                f"{place} is {kind}, where runs have their folders: rename it, or give another "
                "folder, as hydra.run.dir"
            )
    reason = error.strerror or error
    return f"{parent} cannot be made ({reason}): give another folder, as hydra.run.dir"


def checkpoint_in(path: str, field: str) -> str:
    """The checkpoint that a path refers to: the file itself, or the last one in a run's folder.

    Args:
        path: path of a checkpoint or of a run's folder.
        field: the field of the config that has the path, for error messages.

    Raises:
        UserError: there is no such file, or the folder has no checkpoint.
    """
    place = Path(path)
    if place.is_file():
        return path
    if not place.is_dir():
        raise UserError(f"{field}={path} is not a file: give the path of a checkpoint or run")
    if not (place / LAST_CHECKPOINT).is_file():
        raise UserError(
            f"{field}={path} is a folder without {LAST_CHECKPOINT}: give the folder of a run, or "
            "a checkpoint"
        )
    return str(place / LAST_CHECKPOINT)


def is_gone(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder of a run of this process was removed, even if a library has remade it."""
    place = Path(folder).absolute()
    return place in _claimed and not (place / LOCK).exists()


def make_parent(path: str | os.PathLike[str]) -> None:
    """Make the folder of a file, unless it belongs to a run whose folder somebody has removed.

    Args:
        path: path of the file.

    Raises:
        OSError: the folder cannot be made, or the run's is gone.
    """
    place = Path(path).absolute()
    for folder in _claimed:
        if folder in place.parents and is_gone(folder):
            raise FileNotFoundError(errno.ENOENT, "the folder of the run is gone", str(folder))
    place.parent.mkdir(parents=True, exist_ok=True)


def unfinished(path: Path) -> Path:
    """The file that is written in place of another, until it is whole and takes its name."""
    return path.with_name(f".{path.name}{UNFINISHED}")


@contextmanager
def claimed(cfg: DictConfig, overrides: Sequence[str]) -> Iterator[None]:
    """Lock the folder of a run, and write the config and the overrides into it.

    Checkpoints that were being written when the run was killed are removed.

    Args:
        cfg: the composed config.
        overrides: the overrides of the command line.

    Raises:
        UserError: the folder belongs to another run, is in use by one, or cannot be written to.
    """
    if rank_of_process() > 0:
        yield
        return
    folder = Path(cfg.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            _found_empty.add(folder)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"output_dir={folder} is in use by another run: give another folder, as hydra.run.dir"
        ) from error
    except OSError as error:
        raise UserError(
            f"output_dir={folder} cannot be written to ({error.strerror}): give another folder, as "
            "hydra.run.dir"
        ) from error
    try:
        _require_free(folder, cfg)
        for left in folder.glob(unfinished(Path("*")).name):
            with suppress(OSError):  # it is somebody's folder, or cannot be removed
                left.unlink()
        (folder / CONFIG).write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
        lines = "".join(f"{text}\n" for text in overrides)
        (folder / OVERRIDES).write_text(lines, encoding="utf-8")
        _claimed.add(folder.absolute())
        yield
    finally:
        _claimed.discard(folder.absolute())
        lock.release()


@contextmanager
def removed_if_refused() -> Iterator[None]:
    """Removes what was made for a run, if the run ends before it has begun.

    Until `begin_run` SIGTERM ends the program like Ctrl-C; otherwise it would leave no time for it.
    """
    _replace_sigterm(signal.SIG_DFL, signal.default_int_handler)
    try:
        yield
    except BaseException:
        for folder in filter(Path.is_dir, _made | _found_empty):
            names = {path.name for path in folder.iterdir()}
            if names <= {CONFIG, OVERRIDES, LOCK}:
                for name in names:
                    (folder / name).unlink()
                if folder in _made:
                    os.removedirs(folder)  # and those above it, as far as they are empty
        raise
    finally:
        begin_run()
        _made.clear()
        _found_empty.clear()


def begin_run() -> None:
    """Give SIGTERM its default meaning back, before the trainer handles it."""
    _replace_sigterm(signal.default_int_handler, signal.SIG_DFL)


def _replace_sigterm(old: Handler, new: Handler) -> None:
    # Only the main thread may set handlers; one that somebody else has set stays.
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) == old:
        signal.signal(signal.SIGTERM, new)


def _require_free(folder: Path, cfg: DictConfig) -> None:
    if (folder / SUMMARY).exists():
        raise UserError(
            f"output_dir={folder} holds a finished run, which is not overwritten: give another "
            "folder, as hydra.run.dir"
        )
    last = folder / LAST_CHECKPOINT
    resumed = cfg.mode == "train" and cfg.ckpt_path is not None and last.exists()
    if last.exists() and not (resumed and last.samefile(cfg.ckpt_path)):
        raise UserError(
            f"output_dir={folder} holds a run that was stopped: resume it with ckpt_path={last}, "
            "or give another folder, as hydra.run.dir"
        )
