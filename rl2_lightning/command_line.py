"""A user's mistakes on the command line, told in one line each."""

import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from textwrap import shorten

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from rl2_lightning.config import TrainConfig
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.settings import wrong_type

FULL_ERROR = "HYDRA_FULL_ERROR"
LONGEST_LINE = 2000  # characters of an error
SHOW_TRACEBACKS = os.environ.get(FULL_ERROR, "0") == "1"

# What PyTorch says where memory is out, on a CPU or on a GPU, and what would fit.
ALLOCATE = "to allocate"
SMALLER = "lower collection.num_trials, evaluation.batch_size or sizes of env, agent and memory"

# What Hydra says of a group for which no file is named.
NO_CHOICE = "Config group override must be a string"


def put_flags_first() -> None:
    """Lets `-m` stand anywhere; Hydra takes fields only in one row.

    Raises:
        UserError: Hydra knows no such flag.
    """
    known = get_args_parser()._option_string_actions
    for argument in sys.argv[1:]:
        # After a single dash and a letter may follow the flag's value.
        flag = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
        if flag.startswith("-") and flag not in known:
            raise UserError(
                f"unknown flag {flag}: {_suggestion(flag, known)}; fields have no dashes"
            )
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))


@contextmanager
def one_line_errors(*, in_job: bool = False) -> Iterator[None]:
    """Ends the program with one line on standard error and exit code 1 at a user's mistake.

    With `HYDRA_FULL_ERROR=1` in the environment the traceback is shown instead. It is meant
    around the whole program, for mistakes that Hydra finds, and once more around the job: past
    Hydra, which would print a line of its own about a job that failed.

    Args:
        in_job: whether Hydra has composed the config.
    """
    if SHOW_TRACEBACKS:
        yield
        return
    try:
        with _hydra_raises(not in_job):
            yield
    except UserError as error:
        # In a sweep the other runs go on; Hydra names the overrides of this one.
        diverged = isinstance(error, NonFiniteLossError)
        if in_job and diverged and HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        # The process that was started first speaks for all ranks.
        sys.exit(1 if os.environ.get("LOCAL_RANK", "0") != "0" else _line(str(error)))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_line(explain(error)))
    except RuntimeError as error:
        if ALLOCATE not in str(error):
            raise
        sys.exit(_line(f"not enough memory: {str(error).splitlines()[0]}; {SMALLER}"))
    except ValueError as error:
        if in_job or NO_CHOICE not in str(error):
            raise
        sys.exit(_line(_no_choice()))


def _line(text: str) -> str:
    """An error in one line: a name that stands in a file may hold anything, line ends as well."""
    shown = "".join(char if char.isprintable() else " " for char in f"error: {text}")
    return shorten(shown, LONGEST_LINE, placeholder=" ...")


@contextmanager
def _hydra_raises(raises: bool) -> Iterator[None]:
    """Lets Hydra raise errors instead of printing them; processes that a job starts must not."""
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
    """What Hydra or OmegaConf found wrong with the config, with a remedy, in one line."""
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    text = " ".join(str(cause).replace("\\n", " ").split())
    if isinstance(cause, MissingConfigException):
        return _unknown_choice(cause)
    if isinstance(cause, OverrideParseException):
        return f"cannot read '{cause.override}': write field=value, and quote special characters"
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several[1]} has several values: add --multirun to run each, or write a list [a,b]"
    if isinstance(cause, InstantiationException):
        return _not_built(text)
    return _wrong_field(cause, re.sub(r" (full_key|object_type|reference_type)[:=].*", "", text))


def _wrong_field(error: Exception, text: str) -> str:
    full_key = getattr(error, "full_key", None)
    if not full_key:
        return text
    if re.search(r"Key '.*' (is not in struct|not in '.*')", text):
        known = getattr(error, "parent_node", None) or ()
        return f"unknown config key '{full_key}': {_suggestion(full_key.rpartition('.')[2], known)}"
    told = wrong_type(full_key, getattr(error, "value", None), text)
    return told or f"{full_key}: {text}"


def _not_built(text: str) -> str:
    reason, _, full_key = text.partition(" full_key: ")
    reason = re.sub(r", set env var HYDRA_FULL_ERROR=1.*", "", reason)
    return f"{full_key} cannot be built: {reason}; mend its fields, or leave it out"


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return " ".join(str(error).split())
    return f"{group}={choice} is unknown: {_suggestion(choice, error.options or ())}"


def _no_choice() -> str:
    # Hydra's error names neither group nor value.
    no_word = [
        text for text in sys.argv[1:] if re.fullmatch(r"[\w/]+=(null|true|false|[\d.]+)", text)
    ]
    groups = [field.name for field in fields(TrainConfig) if field.type not in ("int", "str")]
    groups += ["experiment", "sweep", "debug"]
    culprits = [text for text in no_word if text.partition("=")[0] in groups]
    told = ", ".join(culprits)
    return f"{told} names no file of the group: write a file's name, as in env=bernoulli_bandit"


def _suggestion(name: str, known: Iterable[object]) -> str:
    names = [str(one) for one in known if one != "hydra"]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known are {', '.join(names)}" if names else "see `python train.py --help`"
