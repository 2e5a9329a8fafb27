"""The config of a run that starts from a checkpoint: the stored one with overrides on top."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, cast

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from rich import get_console

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import EvaluationConfig, TrainerConfig, register_schemas
from rl2_lightning.errors import UserError
from rl2_lightning.overrides import SEARCH_PATH, parsed
from rl2_lightning.parts import PARTS, TARGET, find_class
from rl2_lightning.run_folder import rank_of_process
from rl2_lightning.settings import (
    Settings,
    check_ranges,
    make_settings,
    names_no_code,
    stored_settings,
)
from rl2_lightning.stored import SCHEMAS, differences
from rl2_lightning.stored_choices import choices_of, nodes_that_set, search_path
from rl2_lightning.trust import CONFIGS, folders_of, require_trusted_names

CONFIG_NAME = "train"
PRECISION = "trainer.precision"  # the one argument of the trainer that a test takes from a file
TYPED: Mapping[str, type[Settings]] = {
    **SCHEMAS,
    "evaluation": EvaluationConfig,
    "trainer": TrainerConfig,
}


def resumed(cfg: DictConfig, overrides: Sequence[str], of_hydra: Sequence[str] = ()) -> DictConfig:
    """The config of a run that starts from the checkpoint `ckpt_path`.

    Prints each field that differs from the stored one.

    Args:
        cfg: the composed config.
        overrides: the overrides of the command line.
        of_hydra: those that set Hydra's own fields, such as its search path.

    Raises:
        UserError: the checkpoint cannot be read, its stored config does not fit, or a value is out
            of range.
    """
    checkpoint = Checkpoint.read(cfg.ckpt_path, "ckpt_path")
    merged, differing = with_stored_config(cfg, checkpoint, overrides, of_hydra)
    check_ranges(merged)
    if rank_of_process() == 0:
        for name, (theirs, ours) in differing.items():
            line = f"{name} was {theirs} in {cfg.ckpt_path}, and is {ours} now"
            get_console().print(line + _effect(name, theirs, ours), soft_wrap=True)
    return merged


def config_of(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config with which a checkpoint can be tested, without a command line.

    Args:
        path: path of the checkpoint.
        overrides: fields that differ from the stored ones.

    Raises:
        UserError: the checkpoint cannot be read, no config file names one of its classes, or a
            value is out of range.
    """
    checkpoint = Checkpoint.read(path)
    given = [*choices_of(checkpoint, path), *overrides]
    register_schemas()
    with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
        cfg = compose(CONFIG_NAME, ["output_dir=.", "mode=test", *given, search_path()])
        cfg.ckpt_path = path
        if any(folders_of(sys.argv[1:])):
            require_trusted_names(cfg, sys.argv[1:])  # before classes are imported
        merged, _ = with_stored_config(cfg, checkpoint, given, [search_path()])
    check_ranges(merged)
    return merged


def _effect(name: str, theirs: Any, ours: Any) -> str:
    """What follows from a changed field, where it is not obvious."""
    if name == "collection.total_env_steps":
        return (
            f": the spent part of the budget is {theirs / ours:.3g} times the former one, and the "
            "learning rate and everything else that depends on it continues from there"
        )
    if name in ("trainer.devices", "trainer.num_nodes"):
        return (
            ": each iteration has as many trials as before, but other ones, so that the result is "
            "not bit for bit that of a run that was never stopped"
        )
    return ""


def with_stored_config(
    cfg: DictConfig,
    checkpoint: Checkpoint,
    overrides: Sequence[str],
    of_hydra: Sequence[str] = (),
) -> tuple[DictConfig, dict[str, tuple[Any, Any]]]:
    """The stored config of the training that a run continues or tests, with the run's own on top.

    The run's own fields are those that the command sets by name and those in which its `experiment`
    and `debug` differ from the defaults. Callbacks and loggers are always the run's own, since
    nothing that a checkpoint names is built.

    Args:
        cfg: the composed config.
        checkpoint: the checkpoint that the run starts from.
        overrides: the overrides of the command line.
        of_hydra: those that set Hydra's own fields, such as its search path.

    Returns:
        The config, and the fields in which it differs from the stored one: both values by name.

    Raises:
        UserError: the stored config does not fit.
    """
    said = f"ckpt_path={cfg.ckpt_path}"
    stored, merged = checkpoint.config, cfg.copy()
    is_own = _OwnFields(cfg, overrides, of_hydra)
    differing: dict[str, tuple[Any, Any]] = {}
    for group in (*PARTS, *TYPED):
        if group in PARTS and not _is_same_class(cfg[group], stored.get(group)):
            continue  # raises an error later
        for name, value in _stored_fields(merged, group, stored.get(group), said).items():
            full_name = f"{group}.{name}"
            if group == "trainer" and cfg.mode == "test" and full_name != PRECISION:
                continue
            ours = _plain(OmegaConf.select(merged, full_name))
            if not is_own.field(full_name):
                _set(merged, full_name, value)
            elif ours != value:
                differing[full_name] = (value, ours)
    if not is_own.field("seed") and type(stored.get("seed")) is int:
        merged.seed = stored["seed"]
    return merged, differing


class _OwnFields:
    """Which fields of a config the command sets, as opposed to defaults.

    Fields that come with a choice of family, memory or learner count as defaults.
    """

    def __init__(self, cfg: DictConfig, overrides: Sequence[str], of_hydra: Sequence[str]) -> None:
        given = list(parsed(overrides))
        # What the classes' own files say, wherever they lie.
        choices = [one for one in given if one.key_or_group in PARTS]
        choices += [one for one in parsed(of_hydra) if one.key_or_group == SEARCH_PATH]
        texts = [str(one.input_line) for one in choices]
        defaults = OmegaConf.to_container(compose(CONFIG_NAME, texts))
        composed = OmegaConf.to_container(cfg)
        self._named = {one.key_or_group for one in given if one.key_or_group not in PARTS}
        self._changed = differences(cast(Any, composed), cast(Any, defaults)).keys()

    def field(self, name: str) -> bool:
        """Whether the command sets a field, a part of it, or a node that contains it."""
        is_changed = any(_contains(name, one) for one in self._changed)
        return is_changed or any(
            _contains(name, one) or _contains(one, name) for one in self._named
        )


def _contains(node: str, name: str) -> bool:
    return f"{name}.".startswith(f"{node}.")


def _set(cfg: DictConfig, name: str, value: Any) -> None:
    """Replace the whole value of a field."""
    if isinstance(value, Mapping):
        # Emptied first: what is not overwritten must not survive. A mapping of a declared type
        # takes plain values only when they are merged.
        OmegaConf.update(cfg, name, {}, merge=False, force_add=True)
    OmegaConf.update(cfg, name, value, merge=True, force_add=True)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _is_same_class(chosen: DictConfig, stored: Any) -> bool:
    return isinstance(stored, Mapping) and stored.get(TARGET) == chosen.get(TARGET)


def _stored_fields(cfg: DictConfig, group: str, stored: Any, said: str) -> dict[str, Any]:
    """The fields of a group as stored in a file, with types checked, by dotted name.

    A mapping of any names, such as the curriculum, is one value.
    """
    if not isinstance(stored, Mapping):
        raise UserError(f"{said} has no settings of {group}: it is not from this program")
    values = {name: value for name, value in stored.items() if name != TARGET}
    if group in PARTS:
        schema = cast(Any, find_class(cfg, group, PARTS[group])).Settings
        found = _flat(stored_settings(schema, values, group, said))
        if _is_own_code(cfg, group, schema, found):
            return found
        # What names code stays the run's own; if it differs, an error says so later.
        return {name: value for name, value in found.items() if names_no_code(schema, name)}
    defaults = cast(dict[str, Any], OmegaConf.to_container(cfg[group], resolve=True))
    return _flat(stored_settings(TYPED[group], {**defaults, **values}, group, said))


def _is_own_code(cfg: DictConfig, group: str, schema: type[Settings], stored: Any) -> bool:
    """Whether a file of the user's configuration names all the code that a checkpoint names."""
    named = _code(schema, stored)
    ours = {name: _plain(OmegaConf.select(cfg, f"{group}.{name}")) for name in named}
    differing = [name for name, value in named.items() if ours[name] != value]
    for node in nodes_that_set(group, differing) if differing else ():
        if node.get(TARGET) != cfg[group][TARGET]:
            continue
        with suppress(UserError):  # another command of the user's would raise it
            plain = cast(dict[str, Any], OmegaConf.to_container(node))
            given = {name: value for name, value in plain.items() if name != TARGET}
            if _code(schema, _flat(make_settings(schema, given, group))) == named:
                return True
    return not differing


def _code(schema: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that name code, by dotted name."""
    return {name: value for name, value in values.items() if not names_no_code(schema, name)}


def _flat(settings: Settings, prefix: str = "") -> dict[str, Any]:
    """The values of settings and of those within them, by dotted name."""
    found: dict[str, Any] = {}
    for name, plain in asdict(settings).items():
        value = getattr(settings, name)
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, Settings) else None
        found |= {f"{prefix}{name}": plain} if inner is None else inner
    return found
