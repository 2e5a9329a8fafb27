"""Settings: dataclasses whose fields declare the values that they accept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from rl2_lightning.errors import UserError

LARGEST = 2**53  # beyond it floats do not hold all whole numbers
POSITIVE = {"low": 1, "high": float("inf")}
NAMES_CODE = "names_code"

# OmegaConf's errors for a value that does not fit its field, and the remedies.
WRONG_TYPES = (
    ("could not be converted to Integer", "give a whole number"),
    ("could not be converted to Float", "give a number"),
    ("not a valid bool", "give true or false"),
    ("is not Optional|Incompatible value 'None'", "this field needs a value"),
    ("is not a ListConfig|with ListConfig", "give a list, such as [1,2]"),
    ("Cannot convert '.*' to string", "give a single word"),
    ("NoneType is not a subclass of", "leave the null out"),
    ("is not a subclass of|Cannot assign .* to Dict", "set its fields instead"),
)


@dataclass
class Settings:
    """The settings of a family, a memory or a learner: its class attribute `Settings`."""

    def check(self) -> None:
        """Check fields that depend on each other.

        Raises:
            UserError: they contradict each other.
        """


SettingsType = TypeVar("SettingsType", bound=Settings)


def between(low: float, high: float = float("inf"), *, default: Any = MISSING) -> Any:
    """A field whose value, if any, lies in [low, high]."""
    return _field(default, {"low": low, "high": high})


def one_of(*choices: str, default: str = MISSING) -> Any:
    """A field whose value is one of the given strings."""
    return _field(default, {"choices": choices})


def range_within(low: float, high: float = float("inf"), *, default: Any = MISSING) -> Any:
    """A field of two numbers in [low, high], in ascending order."""
    return _field(default, {"low": low, "high": high, "is_range": True})


def names_code(default: Any) -> Any:
    """A field whose value names what is imported or called: it is never taken from a file."""
    return _field(default, {NAMES_CODE: True})


def names_no_code(schema: type[Any], name: str) -> bool:
    """Whether the value of a field may be taken from a file.

    Args:
        schema: the dataclass.
        name: name of the field, dotted if it is one of nested settings.
    """
    first, _, rest = name.partition(".")
    found = {one.name: one for one in fields(schema)}.get(first)
    if found is None or not rest:
        return found is None or NAMES_CODE not in found.metadata
    nested: Any = found.default_factory
    is_settings = isinstance(nested, type) and is_dataclass(nested)
    return NAMES_CODE not in found.metadata and not (
        is_settings and not names_no_code(nested, rest)
    )


def _field(default: Any, rule: Mapping[str, Any]) -> Any:
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=rule)
    if isinstance(default, (list, tuple)):
        return field(default_factory=lambda: list(default), metadata=rule)
    return field(default=default, metadata=rule)


def make_settings(
    schema: type[SettingsType], values: Mapping[str, Any] | DictConfig, group: str = ""
) -> SettingsType:
    """Build settings from plain values, each of which has to fit its field.

    Nothing in the values is built, imported or called, whatever they contain.

    Args:
        schema: the dataclass.
        values: values by field; the other fields keep their defaults.
        group: the group of the fields, such as "env", for error messages.

    Raises:
        UserError: a field is unknown or has no value, or its value is of a wrong type or range.
    """
    prefix = f"{group}." if group else ""
    merged = OmegaConf.structured(schema)
    # One by one, because some of OmegaConf's errors do not name the field.
    for name, value in values.items():
        try:
            merged = OmegaConf.merge(merged, {name: value})
        except OmegaConfBaseException as error:
            raise UserError(_misfit(prefix, str(name), value, error)) from error
    for name, value in _leaves(OmegaConf.to_container(merged), prefix):
        if value == MISSING:
            raise UserError(f"{name} has no value: give it one")
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{name}={value} refers to something else: give the value itself")
    check_ranges(merged, prefix)
    settings = cast(SettingsType, OmegaConf.to_object(merged))
    _check_all(settings)
    return settings


def stored_settings(
    schema: type[SettingsType], values: Mapping[str, Any], group: str, name: str
) -> SettingsType:
    """Like `make_settings`, for values stored in a file.

    Args:
        schema: the dataclass.
        values: values by field; the other fields keep their defaults.
        group: the group of the fields.
        name: the file's name in error messages.

    Raises:
        UserError: a field is unknown or has no value, or its value is of a wrong type or range.
    """
    try:
        return make_settings(schema, values, group)
    except UserError as error:
        # The remedy for a field on the command line does not apply to a file.
        cause = str(error).rpartition(": ")[0]
        raise UserError(f"{name} does not fit: {cause}; use another checkpoint") from error


def wrong_type(name: str, value: Any, reason: str) -> str | None:
    """The error message for a value of the wrong type.

    Args:
        name: full name of the field, with its groups.
        value: the value given.
        reason: OmegaConf's error.

    Returns:
        The message; None if OmegaConf's error is about something else.
    """
    for pattern, remedy in WRONG_TYPES:
        if re.search(pattern, reason):
            shown = "null" if str(value) == "None" else value
            return f"{name}={shown} has a wrong type: {remedy}"
    return None


def check_ranges(cfg: DictConfig, prefix: str = "") -> None:
    """Report the first value that its field does not accept; missing ones are left out.

    Args:
        cfg: a structured config; its nodes may be structured, too.
        prefix: the names of its groups, each followed by a dot.

    Raises:
        UserError: a value is out of range, or a list is nested in a list.
    """
    schema = OmegaConf.get_type(cfg)
    known = {one.name: one for one in fields(schema)} if is_dataclass(schema) else {}
    hints = get_type_hints(schema) if known else {}
    for key in (one for one in cfg if not OmegaConf.is_missing(cfg, one)):
        name, value = f"{prefix}{key!s}", cfg[key]
        if isinstance(value, DictConfig):
            check_ranges(value, f"{name}.")
        if get_origin(hints.get(str(key))) is list:
            _check_list(name, value)
        for one in value if isinstance(value, ListConfig) else [value]:
            if isinstance(one, int) and abs(one) > LARGEST:
                raise UserError(f"{name}={value} is out of range: set it to at most {LARGEST}")
        if value is not None and key in known and known[str(key)].metadata:
            _check_value(name, value, known[str(key)].metadata)


def _check_list(name: str, value: Any) -> None:
    # OmegaConf accepts a list as an element of a list of numbers or strings, and does not check
    # what an interpolation refers to.
    is_flat = isinstance(value, ListConfig) and not any(map(OmegaConf.is_config, value))
    if not is_flat:
        raise UserError(f"{name}={value} has a wrong type: give a list, such as [1,2]")


def _check_value(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    if "choices" in rule:
        if value not in rule["choices"]:
            choices = " or ".join(f"{name}={choice}" for choice in rule["choices"])
            raise UserError(f"{name}={value} is unknown: use {choices}")
        return
    if NAMES_CODE in rule:
        return
    low, high = rule["low"], rule["high"]
    for one in value if OmegaConf.is_list(value) else [value]:
        if not low <= one <= high:  # for NaN the message names the lower bound
            allowed = f"at most {high}" if one > high else f"at least {low}"
            raise UserError(f"{name}={value} is out of range: set it to {allowed}")
    if rule.get("is_range") and (len(value) != 2 or value[0] > value[1]):
        raise UserError(f"{name}={value} is not a range: give two numbers, the lower one first")


def _misfit(prefix: str, name: str, value: Any, error: OmegaConfBaseException) -> str:
    """Why a value was rejected, in one line."""
    full_name = f"{prefix}{error.full_key or name}"
    if isinstance(error, ConfigKeyError):
        node = error.parent_node
        known = ", ".join(map(str, node if isinstance(node, DictConfig) else ())) or "none"
        return f"unknown config key '{full_name}': known are {known}"
    reason = str(error).splitlines()[0]
    culprit = value if error.value is None else error.value
    return wrong_type(full_name, culprit, reason) or f"{full_name} does not fit: {reason}"


def _leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of nested containers, with dotted names."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{name}{key}.")
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, name)
    else:
        yield name.removesuffix("."), node


def _check_all(settings: Settings) -> None:
    """Check settings, nested ones first."""
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, Settings):
            _check_all(value)
    settings.check()
