"""Nasty values in every scalar config field give one error line, or a run with valid figures."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.builders import compose_config
from tests.command_line.program import SMALL, told

NASTY = (
    *(
        "-1",
        "0",
        "1e30",
        "9000000000000000",
        "99999999999999999999",
        "nan",
        "inf",
        "-inf",
        "1.5",
        "true",
        "null",
    ),
    *("''", "x", "[]", "[1]", "{}", "{a:1}", "../../x", "'${oc.env:HOME}'"),
)
# The run's folder, fields that are only checked when used, and fields that could take days.
LEFT_ALONE = ("output_dir", "ckpt_path", "start_from")
TOO_LONG = {("trainer.num_nodes", "1e30"), ("learner.num_epochs", "9000000000000000")}


def scalar_fields() -> list[str]:
    """All fields that hold one value."""
    found: list[str] = []

    def walk(node: Any, name: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{name}.{key}" if name else str(key))
        elif not name.endswith("_target_") and name not in LEFT_ALONE:
            found.append(name)

    walk(OmegaConf.to_container(compose_config(Path("unused"), *SMALL)), "")
    return found


def cases() -> list[tuple[str, str]]:
    return [
        (name, value)
        for name in scalar_fields()
        for value in NASTY
        if (name, value) not in TOO_LONG
    ]


def outcome(folder: Path, *arguments: str) -> str:
    """The outcome of a run; anything but figures or one error line fails the test."""
    run = folder / "run"
    # A short budget, for values that let a run use all of it.
    given = (*SMALL, "collection.total_env_steps=32", *arguments)
    if told(folder, *given, f"hydra.run.dir={run}") is not None:
        return "refused"
    if (run / "summary.json").exists():
        for curve in json.loads((run / "summary.json").read_text())["agent"].values():
            assert 0 <= curve["trial_return"] <= 2
            assert math.isfinite(curve["trial_half_width"])
    return "run"


def check_all(folder: Path, chosen: list[tuple[str, str]]) -> None:
    counts = {"run": 0, "refused": 0}
    for number, (name, value) in enumerate(chosen):
        place = folder / str(number)
        place.mkdir()
        try:
            counts[outcome(place, f"{name}={value}")] += 1
        except Exception as error:
            raise AssertionError(f"{name}={value}") from error
    print(f"{len(chosen)} values: {counts}")  # noqa: T201
    assert counts["refused"] > 0


def test_some_values(tmp_path: Path) -> None:
    check_all(tmp_path, random.Random(0).sample(cases(), 20))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_all_values(tmp_path: Path, part: int) -> None:
    check_all(tmp_path, cases()[part::20])
