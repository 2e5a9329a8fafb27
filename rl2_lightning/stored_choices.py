"""The config choices that a checkpoint was trained with, for the command line."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.errors import UserError
from rl2_lightning.overrides import SEARCH_PATH, parsed, value_of
from rl2_lightning.parts import PARTS, TARGET

CONFIGS = Path(__file__).parent / "configs"


def add_choices(path: str) -> None:
    """Add the family, the memory and the learner of a checkpoint to the command line.

    Hydra knows a field such as `env.size` only once the family is chosen. Choices that the command
    makes itself are kept, and an experiment makes all of them.

    Args:
        path: path of the checkpoint.

    Raises:
        UserError: it cannot be read, or no config file names one of its classes.
    """
    arguments = sys.argv[1:]
    named = {one.key_or_group for one in parsed(arguments)}
    if "experiment" in named:
        return
    config = Checkpoint.read(path, "ckpt_path").config
    for group in PARTS:
        if group not in named:
            choice = _choice_of(group, config.get(group), path, _folders(arguments))
            sys.argv.append(f"{group}={choice}")


def _folders(arguments: Sequence[str]) -> list[Path]:
    """The folders in which config files are searched for, the user's own first."""

    def given() -> Iterator[str]:
        for text, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if text in ("--config-dir", "-cd"):
                yield following
            elif text.startswith("--config-dir="):
                yield text.partition("=")[2]
        listed = value_of(SEARCH_PATH, arguments)
        yield from map(str, listed if isinstance(listed, list) else [])

    return [*(Path(one.removeprefix("file://")) for one in given()), CONFIGS]


def _choice_of(group: str, stored: Any, path: str, folders: Sequence[Path]) -> str:
    """The config file of a group that names a checkpoint's class; nothing is imported."""
    target = stored.get(TARGET) if isinstance(stored, Mapping) else None
    files = [file for folder in folders for file in sorted((folder / group).glob("*.yaml"))]
    for file in files:
        content = cast(DictConfig, OmegaConf.load(file))
        # Files of the group env set more than the family.
        own = content.get(group, content)
        if own.get(TARGET) == target:
            return file.stem
    raise UserError(
        f"ckpt_path={path} was trained with {group}.{TARGET}={target}, which none of {group}="
        f"{', '.join(file.stem for file in files)} is: add the folder of its configuration with "
        "--config-dir"
    )
