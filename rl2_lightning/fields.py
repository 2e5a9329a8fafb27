"""Fields of schemas that know which values they take."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from omegaconf import MISSING, OmegaConf

from rl2_lightning.errors import UserError

POSITIVE = {"low": 1, "high": float("inf")}


def between(low: float, high: float = float("inf"), *, default: Any = MISSING) -> Any:
    """A field whose value, if any, lies in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


def one_of(*choices: str) -> Any:
    """A field whose value is one of some words."""
    return field(default=MISSING, metadata={"choices": choices})


def range_within(low: float, high: float = float("inf")) -> Any:
    """A field of two numbers in [low, high], the lower one first."""
    return field(default=MISSING, metadata={"low": low, "high": high, "is_range": True})


def check_value(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    """Tells a value that its field does not take.

    Args:
        name: of the field, with those of its groups.
        value: what was set.
        rule: the field's metadata.

    Raises:
        UserError: with cause, value and remedy in one line.
    """
    if "choices" in rule:
        if value not in rule["choices"]:
            choices = " or ".join(f"{name}={choice}" for choice in rule["choices"])
            raise UserError(f"{name}={value} is unknown: use {choices}")
        return
    low, high = rule["low"], rule["high"]
    for one in value if OmegaConf.is_list(value) else [value]:
        if not low <= one <= high:  # not-a-number is told the lower bound
            allowed = f"at most {high}" if one > high else f"at least {low}"
            raise UserError(f"{name}={value} is out of range: set it to {allowed}")
    if rule.get("is_range") and (len(value) != 2 or value[0] > value[1]):
        raise UserError(f"{name}={value} is no range: give two numbers, the lower first")
