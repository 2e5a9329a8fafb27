"""The parts of a run that a config names by their class: family, memory and learner."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.errors import UserError
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.kinds import known_kinds
from rl2_lightning.learners.learner import Learner
from rl2_lightning.settings import Settings, make_settings

Kind = TypeVar("Kind")
TARGET = "_target_"
PARTS: Mapping[str, type[Any]] = {"env": TaskEnv, "memory": Memory, "learner": Learner}


def find_class(cfg: DictConfig, group: str, base: type[Kind]) -> type[Kind]:
    """The class that a group of the config names by `_target_`.

    Args:
        cfg: the composed config, written by the user.
        group: group of the config.
        base: the required base class; it has a class attribute `Settings`, as its subclasses do.

    Raises:
        UserError: the class cannot be imported, or is not a subclass of `base`.
    """
    found = import_class(cfg[group], group, base)
    schema: type[Settings] = cast(Any, base).Settings
    if not issubclass(cast(Any, found).Settings, schema):
        raise UserError(
            f"{group}._target_={cfg[group][TARGET]} has Settings that are not a {schema.__name__}: "
            f"let them extend {schema.__module__}.{schema.__name__}"
        )
    return found


def import_class(node: Any, name: str, base: type[Kind]) -> type[Kind]:
    """The class that a node of the user's config names by `_target_`.

    Args:
        node: node of the config.
        name: name of the node.
        base: the required base class.

    Raises:
        UserError: the class cannot be imported, is not a subclass of `base`, or is abstract.
    """
    target = node.get(TARGET) if OmegaConf.is_dict(node) else None
    if not isinstance(target, str):
        raise UserError(f"{name} names no class: set {name}.{TARGET}=package.module.Class")
    said = f"{name}.{TARGET}={target}"
    module, _, class_name = target.rpartition(".")
    try:
        found = getattr(import_module(module), class_name)
    except Exception as error:  # an import can raise any exception
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{said} cannot be imported: {reason}; name a class as package.module.Class"
        ) from error
    if not isinstance(found, type) or not issubclass(found, base):
        raise UserError(
            f"{said} is not a {base.__name__}: name a subclass of {base.__module__}.{base.__name__}"
        )
    missing = [
        one for one in dir(found) if getattr(getattr(found, one), "__isabstractmethod__", False)
    ]
    if missing:
        raise UserError(f"{said} lacks {', '.join(missing)}: name a class that has them")
    return found


def read_settings(cfg: DictConfig, group: str, schema: type[Settings]) -> Settings:
    """The settings of a group, with types and ranges checked.

    Raises:
        UserError: a value has a wrong type or is out of range.
    """
    given = {name: value for name, value in cfg[group].items() if name != TARGET}
    return make_settings(schema, given, group)


def leave_out_foreign(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Remove fields from a config that the experiment sets for another memory or learner.

    An experiment is written for one memory and one learner. If another one is chosen, fields that
    it also has are kept, and fields that it does not have are removed with a warning.

    Args:
        cfg: the composed config; changed in place.
        overrides: the overrides of the command line. Fields that they set are kept, so that they
            raise an error.

    Raises:
        UserError: a group names no class of the required kind.
    """
    set_by_user = {text.lstrip("+~").partition("=")[0] for text in overrides}
    for group in ("memory", "learner"):
        own = find_class(cfg, group, PARTS[group])
        others = [cast(Any, kind).Settings for kind in known_kinds(PARTS[group])]
        foreign = [
            f"{group}.{name}" for name in _foreign(cfg[group], cast(Any, own).Settings, others)
        ]
        left_out = [
            name
            for name in foreign
            if not any(one == name or one.startswith(f"{name}.") for one in set_by_user)
        ]
        for full_name in left_out:
            holder, _, name = full_name.rpartition(".")
            with open_dict(cfg):
                del OmegaConf.select(cfg, holder)[name]
        if left_out:
            warnings.warn(
                f"{own.__name__} has no {', '.join(left_out)}: left out, since the experiment was "
                f"written for another {group}",
                stacklevel=2,
            )


def _foreign(node: DictConfig, own: type, others: Collection[type]) -> list[str]:
    """The dotted names of fields that a class's settings lack but those of another class have."""
    found = []
    of_own = {one.name: one for one in fields(own)}
    for name in map(str, node):
        having = [one for other in others for one in fields(other) if one.name == name]
        if name not in of_own:
            found += [name] * bool(having)
        elif isinstance(node[name], DictConfig) and is_dataclass(of_own[name].default_factory):
            nested = [
                cast(type, one.default_factory)
                for one in having
                if is_dataclass(one.default_factory)
            ]
            inner = _foreign(node[name], cast(type, of_own[name].default_factory), nested)
            found += [f"{name}.{one}" for one in inner]
    return found
