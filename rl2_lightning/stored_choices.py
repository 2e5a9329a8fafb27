"""The config choices that a checkpoint was trained with, for the command line."""

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.errors import UserError
from rl2_lightning.overrides import SEARCH_PATH, parsed
from rl2_lightning.parts import PARTS, TARGET
from rl2_lightning.trust import CONFIGS, folders_of


def add_choices(path: str) -> None:
    """Add the family, the memory and the learner of a checkpoint to the command line.

    Hydra knows a field such as `env.size` only once the family is chosen. Choices that the command
    makes itself are kept, and an experiment makes all of them.

    Args:
        path: path of the checkpoint.

    Raises:
        UserError: it cannot be read, no config file names one of its classes, or the command
            removes a choice.
    """
    given = list(parsed(sys.argv[1:]))
    for one in given:
        if one.is_delete() and one.key_or_group in PARTS:
            raise UserError(
                f"{one.input_line} removes what ckpt_path={path} needs: leave it out, or choose "
                f"another file of the group, as in {one.key_or_group}=name"
            )
    named = {one.key_or_group for one in given}
    if "experiment" not in named:
        chosen = choices_of(Checkpoint.read(path, "ckpt_path"), path, without=named)
        sys.argv.extend(chosen)


def choices_of(
    checkpoint: Checkpoint, path: str, without: Collection[str | None] = ()
) -> list[str]:
    """The choices of family, memory and learner that a checkpoint was trained with, as overrides.

    Args:
        checkpoint: the checkpoint.
        path: its path, for error messages.
        without: groups that are left out.

    Raises:
        UserError: no config file names one of its classes.
    """
    config, choices = checkpoint.config, []
    for group in (one for one in PARTS if one not in without):
        stored = config.get(group)
        target = stored.get(TARGET) if isinstance(stored, Mapping) else None
        choice = choice_of(group, target)
        overrides = [f"{group}={choice}"] if choice else _in_an_experiment(group, target)
        if not overrides:
            known = ", ".join(file.stem for file in _files(group))
            raise UserError(
                f"ckpt_path={path} was trained with {group}.{TARGET}={target}, which none of "
                f"{group}={known} is: add the folder of its configuration with --config-dir"
            )
        choices += overrides
    return choices


def choice_of(group: str, target: Any) -> str | None:
    """The config file that names a class, in the folders of the command line; nothing is imported.

    Args:
        group: group of the config.
        target: full name of the class.
    """
    return next((file.stem for file in _files(group) if _target_of(file, group) == target), None)


def _in_an_experiment(group: str, target: Any) -> list[str]:
    """The overrides of an experiment that puts a class in place of the one of its choice."""
    key = f"override /{group}"
    for file in _files("experiment"):
        try:
            content = cast(DictConfig, OmegaConf.load(file))
            if target is None or OmegaConf.select(content, f"{group}.{TARGET}") != target:
                continue
            (choice,) = (one[key] for one in content.defaults if key in one)
            return [f"{group}={choice}", f"{group}.{TARGET}={target}"]
        except Exception:  # noqa: BLE001 - a user's file can fail in any way
            continue
    return []


def nodes_that_set(group: str, names: Collection[str]) -> Iterator[DictConfig]:
    """What the config files of a group, and the experiments, make of it.

    Args:
        group: group of the config.
        names: fields of the group; files that set none of these are left out.

    Returns:
        The group in the whole configuration of each such file, in which nothing is imported.
    """
    for kind in (group, "experiment"):
        for file in _files(kind):
            try:
                content = cast(DictConfig, OmegaConf.load(file))
                own = content.get(group, content if kind == group else {})
                if any(name.partition(".")[0] in own for name in names):
                    yield _composed(f"{kind}={file.stem}")[group]
            except Exception:  # noqa: BLE001 - a user's file can fail in any way
                continue


def _files(group: str) -> list[Path]:
    """The config files of a group, the user's own first."""
    return [file for folder in _folders() for file in sorted((folder / group).glob("*.yaml"))]


def search_path() -> str:
    """The override that makes Hydra find the config files of the command line's folders."""
    folders = ",".join(f"'file://{folder.resolve()}'" for folder in _folders())
    return f"{SEARCH_PATH}=[{folders}]"


def _folders() -> list[Path]:
    """The folders in which config files are searched for."""
    given = folders_of(sys.argv[1:])
    return [*(Path(one.removeprefix("file://")) for one in given), CONFIGS]


def _target_of(file: Path, group: str) -> Any:
    """The class that a config file names; None if there is none, or the file cannot be read."""
    try:
        content = OmegaConf.load(file)
        # Files of the group env set more than the family.
        own = content.get(group, content) if isinstance(content, DictConfig) else None
        if isinstance(own, DictConfig) and TARGET in own:
            return own.get(TARGET)
        is_derived = isinstance(content, DictConfig) and "defaults" in content
        return _composed_target(file, group) if is_derived else None
    except Exception:  # noqa: BLE001 - a user's file can fail in any way, and may not be needed
        return None


def _composed_target(file: Path, group: str) -> Any:
    """The class that a file has from those in its list of defaults."""
    return OmegaConf.select(_composed(f"{group}={file.stem}"), f"{group}.{TARGET}")


def _composed(choice: str) -> DictConfig:
    """The whole configuration of one choice, such as `env=pendulum`."""
    is_in_job = GlobalHydra.instance().is_initialized()
    start = partial(initialize_config_dir, str(CONFIGS.resolve()), version_base="1.3")
    with nullcontext() if is_in_job else start():
        return compose("train", [choice, search_path()])
