"""Which code the configuration files of other folders may name.

The files of this package and the command itself are trusted. What `--config-dir` and
`hydra.searchpath` add may come from others, and a file there must not run code only because it is
read: the modules that it names have to be the package's, lie in a folder of `PYTHONPATH`, stand on
the command line, or be listed in `trust_targets`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rl2_lightning.arguments import CONFIG_DIR, TRUST
from rl2_lightning.errors import UserError
from rl2_lightning.overrides import SEARCH_PATH, parsed, value_of

CONFIGS = Path(__file__).parent / "configs"
TARGET = "_target_"

# Modules whose classes may stand where a class of their kind is required. No others of this
# package: some of its functions take a configuration.
OWN = tuple(f"rl2_lightning.{room}" for room in ("agents", "callbacks", "families", "learners"))
KNOWN = (*OWN, "lightning.pytorch.callbacks", "lightning.pytorch.loggers", "gymnasium.wrappers")

# `module:name`, in fields of a family, a memory or a learner.
MODULE_AND_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*:\S+")
PARTS = ("env", "memory", "learner")
PLUGINS = ("callbacks", "logger")

# What Hydra itself builds and calls, and the variables that processes of the run start with.
BUILT_BY_HYDRA = (
    *("callbacks", "launcher", "sweeper"),
    *("job_logging", "hydra_logging", "job.env_set", "job.env_copy"),
)
OF_OTHERS = ("command-line", "hydra.searchpath")  # Hydra's names for folders that a command adds
REFUSED_FLAGS = {
    "--config-path": "it replaces this program's configuration; add a folder with --config-dir",
    "--config-name": "it replaces this program's configuration; write an experiment instead",
    "--experimental-rerun": "it reads a pickle, which can run any code; give ckpt_path instead",
}
SHORT = {"-cp": "--config-path", "-cn": "--config-name"}


def require_trusted(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Check the names of code in a config, before any of them is imported.

    Args:
        cfg: the composed config of a job.
        overrides: the overrides of the command line.

    Raises:
        UserError: a file of a folder that the command adds names code that is not trusted.
    """
    sources = HydraConfig.get().runtime.config_sources
    if any(one.provider.startswith(OF_OTHERS) for one in sources):
        require_trusted_names(cfg, overrides)


def require_trusted_names(
    cfg: DictConfig, overrides: Sequence[str], folders: Sequence[str] | None = None
) -> None:
    """Check the names of code in a config that is composed of other people's files.

    Args:
        cfg: the composed config.
        overrides: the overrides of the command line.
        folders: folders with the user's own modules; None for those of `PYTHONPATH`.

    Raises:
        UserError: it names code that is not trusted.
    """
    trusted = _trusted_by(overrides)
    plain = OmegaConf.to_container(cfg, resolve=True)
    for name, value, is_class_of_a_kind in _names_of_code(cast(dict[str, Any], plain)):
        if _stands_in(value, overrides) or _is_named_in(value, trusted):
            continue
        if is_class_of_a_kind and (_is_known(value) or _lies_in(folders, value)):
            continue
        raise UserError(
            f"{name}={value} stands in a file of another folder and may run any code: if you "
            f"trust it, add {TRUST}=[{_module_of(value)}]"
        )


def require_trusted_hydra(arguments: Sequence[str]) -> None:
    """Check what Hydra itself would build or set, before it does.

    Args:
        arguments: arguments of the command, without the program.

    Raises:
        UserError: a flag reads code, or a file of a folder that the command adds sets such a field.
    """
    for text in arguments:
        flag = SHORT.get(text, text.partition("=")[0])
        if flag in REFUSED_FLAGS:
            raise UserError(f"{text} is refused: {REFUSED_FLAGS[flag]}")
    folders = list(folders_of(arguments))
    if not folders or "hydra" in _trusted_by(arguments):
        return
    given = list(parsed(arguments))
    # In a sweep each value is looked at alone.
    fixed = [str(one.input_line) for one in given if not one.is_sweep_override()]
    fixed = [text for text in fixed if not text.startswith(f"{SEARCH_PATH}=")]
    swept = [
        f"{one.get_key_element()}={value}"
        for one in given
        if one.is_sweep_override()
        for value in one.sweep_string_iterator()
    ]
    own = _hydra_of([text for text in fixed if text.lstrip("+~").startswith("hydra")])
    listed = ",".join(f"'{_as_url(one)}'" for one in folders)
    for more in [[], *([text] for text in swept)]:
        theirs = _hydra_of([f"{SEARCH_PATH}=[{listed}]", *fixed, *more])
        if theirs is None:
            return  # Hydra reports the mistake
        for name in BUILT_BY_HYDRA:
            if own is None or _plain(theirs, name) != _plain(own, name):
                raise UserError(
                    f"hydra.{name} is set by a file of {' or '.join(folders)}, and may run any "
                    f"code: set it on the command line, or if you trust it, add {TRUST}=[hydra]"
                )


def folders_of(arguments: Sequence[str]) -> Iterator[str]:
    """The folders with configuration files that a command adds.

    Args:
        arguments: arguments of the command, without the program.
    """
    for text, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if text in CONFIG_DIR:
            yield following
        elif text.startswith(f"{CONFIG_DIR[0]}="):
            yield text.partition("=")[2]
    listed = value_of(SEARCH_PATH, arguments)
    yield from map(str, listed if isinstance(listed, list) else [])


def _as_url(folder: str) -> str:
    return folder if "://" in folder else f"file://{Path(folder).resolve()}"


def _hydra_of(overrides: Sequence[str]) -> DictConfig | None:
    """Hydra's own part of a configuration; None if it cannot be composed."""
    try:
        with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
            cfg = compose("train", list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException):
        return None
    return cast(DictConfig, cfg.hydra)


def _plain(node: DictConfig, name: str) -> Any:
    value = OmegaConf.select(node, name)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _trusted_by(overrides: Sequence[str]) -> list[str]:
    """What the command trusts; a file cannot say so of itself."""
    listed = value_of(TRUST, overrides)
    return [str(one) for one in listed] if isinstance(listed, list) else []


def _names_of_code(plain: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Names of code with their fields, and whether a class of a certain kind is required there."""
    for name, value in _leaves(plain, ""):
        group, *within = name.split(".")
        if within[-1:] == [TARGET]:
            depth = {**dict.fromkeys(PARTS, 1), **dict.fromkeys(PLUGINS, 2)}.get(group)
            yield name, str(value), len(within) == depth
        elif group in PARTS and isinstance(value, str) and MODULE_AND_NAME.fullmatch(value):
            yield name, value, True


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{name}.{number}")
    else:
        yield name, node


def _stands_in(value: str, overrides: Sequence[str]) -> bool:
    """Whether a name stands on the command line as a whole."""
    pattern = re.compile(rf"(?<![\w.:]){re.escape(value)}(?![\w.:])")
    return any(pattern.search(text) for text in overrides)


def _is_known(value: str) -> bool:
    return _is_named_in(value, KNOWN) or value in _names_of_package()


def _is_named_in(value: str, trusted: Collection[str]) -> bool:
    """Whether a name, or a module that contains it, is listed.

    What a module has imported is not its own: `mine.os.system` is not in `mine`.
    """
    dotted = value.replace(":", ".")
    if value in trusted or dotted in trusted:
        return True
    if not any(dotted.startswith(f"{one}.") for one in trusted):
        return False
    if ":" in value:
        return True  # the module is given as such
    try:
        return find_spec(_module_of(value)) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _module_of(value: str) -> str:
    return value.partition(":")[0] if ":" in value else value.rpartition(".")[0]


def _lies_in(folders: Sequence[str] | None, value: str) -> bool:
    """Whether a name's module lies in a folder of the user's own code."""
    if folders is None:
        folders = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    top = value.partition(":")[0].partition(".")[0]
    is_of_python = top in sys.stdlib_module_names or top in sys.builtin_module_names
    return not is_of_python and PathFinder.find_spec(top, list(folders)) is not None


@cache
def _names_of_package() -> frozenset[str]:
    """All words of the package's own configuration files."""
    texts = (file.read_text(encoding="utf-8") for file in CONFIGS.rglob("*.yaml"))
    return frozenset(word for text in texts for word in text.split())
