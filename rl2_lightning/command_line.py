"""Report a user's mistakes on the command line in one line each."""

import atexit
import difflib
import os
import re
import signal
import sys
from argparse import Action
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from textwrap import shorten

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rl2_lightning.config import TrainConfig
from rl2_lightning.errors import UserError
from rl2_lightning.overrides import quoted, value_of
from rl2_lightning.run_folder import checkpoint_in
from rl2_lightning.settings import wrong_type
from rl2_lightning.sweep_report import goes_on_after

FULL_ERROR = "HYDRA_FULL_ERROR"
LONGEST_LINE = 2000  # characters of an error
SHOW_TRACEBACKS = os.environ.get(FULL_ERROR, "0") == "1"

# Part of PyTorch's out-of-memory errors, on CPU and GPU, and the remedy.
ALLOCATE = re.compile("to allocate|Storage size calculation overflowed")
SMALLER = "lower collection.num_trials, evaluation.batch_size or sizes of env, agent and memory"

# Hydra's error for a group whose value is not a file name.
NO_CHOICE = "Config group override must be a string"

STOPPED = "stopped before the run began"

# Hydra's plugin for searches, which is an extra.
OPTUNA = "hydra/sweeper=optuna"

# Fields that are paths, whose names may have characters with a meaning for Hydra.
PATHS = ("ckpt_path", "start_from", "output_dir", "hydra.run.dir", "hydra.sweep.dir")

# Part of OmegaConf's error for a field that is set within a null.
WITHIN_NULL = "None"

# What OmegaConf puts before a mistake that one of our resolvers reports.
IN_A_RESOLVER = f"{UserError.__name__} raised while resolving interpolation: "


def tidy_arguments() -> None:
    """Move flags to the front, since Hydra wants fields in one row; turn `logger=null` into `none`.

    Raises:
        UserError: Hydra has no such flag.
    """
    flags, others = [], []
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if not argument.startswith("-"):
            others.append(argument)
            continue
        action, has_value = _flag(argument)
        flags.append(argument)
        # A flag that takes a value is followed by it, unless the argument already contains it.
        if action.nargs is None and not has_value:
            flags += [value for value in (next(arguments, None),) if value is not None]
    sys.argv[1:] = flags + ["logger=none" if text == "logger=null" else text for text in others]


def checkpoint_named() -> str | None:
    """The file that `ckpt_path` names on the command line; None if there is none.

    Raises:
        UserError: it names a folder without a checkpoint.
    """
    named = str(value_of("ckpt_path", sys.argv[1:]) or "")
    path = os.path.expanduser(named)  # noqa: PTH111 - Path's raises an error without a home
    return checkpoint_in(path, "ckpt_path") if path and Path(path).exists() else None


def _flag(argument: str) -> tuple[Action, bool]:
    """A flag of Hydra's, and whether the argument also contains its value."""
    known = get_args_parser()._option_string_actions
    if argument in known:
        return known[argument], False
    # A long flag has its value after an equals sign, a short one right after the letter.
    name = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
    if name in known:
        return known[name], True
    raise UserError(f"unknown flag {name}: {_suggestion(name, known)}; fields have no dashes")


@contextmanager
def one_line_errors(*, in_job: bool = False) -> Iterator[None]:
    """At a user's mistake, end the program with one line on standard error and exit code 1.

    In a sweep only the job ends, and the others run.

    With `HYDRA_FULL_ERROR=1` in the environment the traceback is shown instead. Wrap the whole
    program in it, for mistakes that Hydra finds, and the job once more: otherwise Hydra would print
    a line of its own about the failed job.

    Args:
        in_job: whether Hydra has composed the config.
    """
    if SHOW_TRACEBACKS:
        yield
        return
    try:
        with _hydra_raises(not in_job):
            yield
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except BrokenPipeError:
        # Whoever read the output, such as `head`, wants no more of it; at its exit Python would
        # write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        line = line_of(error, in_job)
        is_of_config = not in_job or isinstance(error, HydraException | OmegaConfBaseException)
        if (line is None or is_of_config) and _follows_ctrl_c(error):
            sys.exit(STOPPED)
        if line is None:
            raise
        if in_job and HydraConfig.get().mode == RunMode.MULTIRUN:
            if goes_on_after(_line(line)):
                return
            raise
        # Only the main process reports an error that all ranks have.
        is_other_rank = isinstance(error, UserError) and os.environ.get("LOCAL_RANK", "0") != "0"
        sys.exit(1 if is_other_rank else _line(line))
    finally:
        if not in_job:
            # The program is done: Ctrl-C would show where the libraries' own exits are.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)


def _follows_ctrl_c(error: BaseException | None) -> bool:
    """Whether an error came from handling Ctrl-C.

    Hydra closes files that it has not opened yet, and OmegaConf resets configs that it has not
    filled yet.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def line_of(error: Exception, in_job: bool) -> str | None:
    """The line that reports an error to the user; None if it is not the user's mistake."""
    text = str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error)
    place = getattr(error, "filename", None) or "a file of the run"
    reason = getattr(error, "strerror", None) or text
    lines: list[tuple[bool, str]] = [
        (isinstance(error, UserError), text),
        (isinstance(error, OSError), f"{place} cannot be used ({reason}): free it, or use another"),
        (
            isinstance(error, RuntimeError) and ALLOCATE.search(text) is not None,
            f"not enough memory: {text.splitlines()[0] if text else text}; {SMALLER}",
        ),
    ]
    if not in_job:
        is_within_null = isinstance(error, AssertionError | AttributeError) and WITHIN_NULL in text
        told = " ".join(text.split())
        lines += [
            (
                isinstance(error, YAMLError),
                f"a configuration file is no valid YAML: {told}; fix it there",
            ),
            (
                isinstance(error, UnicodeDecodeError),
                f"a config file is not in UTF-8: {told}; save it in UTF-8",
            ),
            (isinstance(error, ValueError) and NO_CHOICE in text, _no_choice()),
            (is_within_null, f"{' '.join(sys.argv[1:])} sets a field within one that is null"),
        ]
    return next((line for is_it, line in lines if is_it), None)


def _line(text: str) -> str:
    """An error in one line; names read from a file may contain anything, also line breaks."""
    shown = "".join(char if char.isprintable() else " " for char in f"error: {text}")
    return shorten(shown, LONGEST_LINE, placeholder=" ...")


@contextmanager
def _hydra_raises(raises: bool) -> Iterator[None]:
    """Make Hydra raise errors instead of printing them; not for processes that a job starts."""
    before = os.environ.pop(FULL_ERROR, None)
    if raises:
        os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ.pop(FULL_ERROR, None)
        if before is not None:
            os.environ[FULL_ERROR] = before


def explain(error: Exception) -> str:
    """The mistake that Hydra or OmegaConf found in the config, with a remedy, in one line."""
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    text = " ".join(str(cause).replace("\\n", " ").split())
    if isinstance(cause, MissingConfigException):
        return _unknown_choice(cause)
    if isinstance(cause, OverrideParseException):
        return _unreadable(cause.override or "")
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several[1]} has several values: add --multirun to run each, or write a list [a,b]"
    text = re.sub(r" (full_key|object_type|reference_type)[:=].*", "", text)
    _, is_told, told = text.partition(IN_A_RESOLVER)
    return told if is_told else _wrong_field(cause, text)


def _unreadable(override: str) -> str:
    name, _, value = override.partition("=")
    name = name.lstrip("+")
    is_path = value and value[0] not in "'\"" and name in PATHS
    remedy = quoted(name, value) if is_path else "field=value, and quote special characters"
    return f"cannot read '{override}': write {remedy}"


def _wrong_field(error: Exception, text: str) -> str:
    full_key = getattr(error, "full_key", None)
    if not full_key:
        return text
    if re.search(r"Key '.*' (is not in struct|not in '.*')", text):
        known = getattr(error, "parent_node", None) or ()
        return f"unknown config key '{full_key}': {_suggestion(full_key.rpartition('.')[2], known)}"
    told = wrong_type(full_key, getattr(error, "value", None), text)
    return told or f"{full_key}: {text}"


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return " ".join(str(error).split())
    if f"{group}={choice}" == OPTUNA:
        return f"{OPTUNA} is not installed: run `pip install rl2-lightning[optuna]`"
    return f"{group}={choice} is unknown: {_suggestion(choice, error.options or ())}"


def _no_choice() -> str:
    # Hydra's error names neither group nor value.
    no_word = [
        text for text in sys.argv[1:] if re.fullmatch(r"[\w/]+=(null|true|false|[\d.]+)", text)
    ]
    groups = [field.name for field in fields(TrainConfig) if field.type not in ("int", "str")]
    groups += ["experiment", "tuned", "sweep", "debug"]
    culprits = [text for text in no_word if text.partition("=")[0] in groups]
    told = ", ".join(culprits)
    return f"{told} names no file of the group: give a file name, as in env=bernoulli_bandit"


def _suggestion(name: str, known: Iterable[object]) -> str:
    names = [str(one) for one in known if one != "hydra"]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known are {', '.join(names)}" if names else "see `python train.py --help`"
