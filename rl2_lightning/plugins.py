"""Build callbacks and loggers of any class, with arguments checked against its signature."""

import inspect
import os
import typing
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from rl2_lightning.errors import UserError
from rl2_lightning.parts import TARGET, import_class
from rl2_lightning.settings import Settings, make_settings

Base = TypeVar("Base")
PLAIN = (bool, int, float, str)


def build_plugins(cfg: DictConfig, group: str, base: type[Base]) -> list[Base]:
    """Build the objects that a group of the config describes, except those that are null.

    Args:
        cfg: the composed config.
        group: the group, which contains them by name.
        base: the required base class.

    Raises:
        UserError: one is not a subclass of `base`, or is given arguments that it does not take.
    """
    built = []
    for name, node in cfg[group].items():
        if node is None:
            continue
        full_name = f"{group}.{name}"
        found = import_class(node, full_name, base)
        arguments = {key: value for key, value in node.items() if not str(key).startswith("_")}
        schema, takes_more = _schema_of(found, full_name)
        if takes_more:
            known = {one.name for one in fields(schema)}
            arguments = {key: value for key, value in arguments.items() if key in known}
        settings = make_settings(schema, arguments, full_name)
        # Values are now of the declared types, e.g. a number where a string is expected.
        plain = [one.name for one in fields(schema) if one.type is not Any]
        taken = {name: getattr(settings, name) for name in plain if name in arguments}
        built.append(_built({**node, **taken}, full_name))
    return built


def _built(node: dict[Any, Any], name: str) -> Any:
    try:
        # Plain lists and dictionaries, unless the node says otherwise.
        one = instantiate({"_convert_": "all", **node})
        _ = getattr(one, "log_dir", None)  # a logger first reads its arguments here
    except Exception as error:  # a constructor can raise any exception
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise UserError(f"{name}: {cause}") from error
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise UserError(f"{name} cannot be built: {reason}; fix its fields") from error
    return one


def _schema_of(found: type[Any], name: str) -> tuple[type[Settings], bool]:
    """The arguments of a constructor as settings, and whether it has `**kwargs`.

    Arguments that are not of a plain type accept any value.

    Raises:
        UserError: the signature cannot be read.
    """
    try:
        parameters = list(inspect.signature(found).parameters.values())
        hints = typing.get_type_hints(found.__init__)
    except (TypeError, ValueError, NameError) as error:
        raise UserError(f"{name}.{TARGET}: the signature cannot be read: {error}") from error
    named = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    schema = make_dataclass(
        found.__name__,
        [
            (
                one.name,
                _plain_type(hints.get(one.name, Any), one.default),
                field(default=_plain_default(one.default)),
            )
            for one in named
        ],
        bases=(Settings,),
    )
    return schema, any(one.kind == one.VAR_KEYWORD for one in parameters)


def _plain_type(hint: Any, default: Any) -> Any:
    """The type of an argument, if it is a plain one; a path is given as a string."""
    is_union = typing.get_origin(hint) in (typing.Union, UnionType)
    options = set(typing.get_args(hint) if is_union else (hint,))
    plain = options - {type(None), Path, os.PathLike}
    if len(plain) != 1 or not plain <= set(PLAIN):
        return Any
    (one,) = plain
    is_given = default is not inspect.Parameter.empty and default is not None
    if is_given and type(default) not in (one, int if one is float else one):
        return Any  # the class itself does not keep to its hint
    return one | None if NoneType in options or default is None else one


def _plain_default(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return MISSING
    return default if isinstance(default, PLAIN) else None
