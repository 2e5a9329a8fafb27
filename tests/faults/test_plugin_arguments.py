"""Callbacks whose arguments are lists, dictionaries, or unlike their hints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import pytest

from tests.command_line.program import SMALL, call_program, mistake_told


class Keeps(pl.Callback):
    """Keep the arguments."""

    kept: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        sizes: list[int],
        names: list[str] = (),  # type: ignore[assignment]
        nested: Mapping[str, Any] | None = None,
        count: int = 0.5,  # type: ignore[assignment]
        label: str | None = None,
        unit: str = "m",
        place: str | Path = "here",
    ) -> None:
        given = {"sizes": sizes, "names": names, "nested": nested, "count": count, "label": label}
        Keeps.kept = given | {"unit": unit, "place": place}


def keep(folder: Path, arguments: str) -> dict[str, Any]:
    node = f"{{_target_: {__name__}.Keeps, {arguments}}}"
    call_program(folder, *SMALL, f"+callbacks.keeps={node}", f"hydra.run.dir={folder / 'run'}")
    return Keeps.kept


def test_defaults_unlike_their_hints(tmp_path: Path) -> None:
    assert keep(tmp_path, "sizes: [1, 2]") == {
        "sizes": [1, 2],
        "names": (),
        "nested": None,
        "count": 0.5,
        "label": None,
        "unit": "m",
        "place": "here",
    }


def test_plain_lists_and_dictionaries(tmp_path: Path) -> None:
    kept = keep(
        tmp_path, "sizes: [1], names: [a], nested: {a: {b: [1]}}, count: 2, label: 3, place: a/b"
    )
    assert kept == {
        "sizes": [1],
        "names": ["a"],
        "nested": {"a": {"b": [1]}},
        "count": 2,
        "label": "3",
        "unit": "m",
        "place": "a/b",
    }
    assert type(kept["sizes"]) is list
    assert type(kept["nested"]) is dict
    assert type(kept["nested"]["a"]) is dict


def test_lightnings_timer(tmp_path: Path) -> None:
    timer = "{_target_: lightning.pytorch.callbacks.Timer, duration: {hours: 2}}"
    call_program(tmp_path, *SMALL, f"+callbacks.timer={timer}", f"hydra.run.dir={tmp_path / 'run'}")
    assert (tmp_path / "run" / "summary.json").exists()


MISTAKES = (
    "count: 1",
    "sizes: [1], label: [a]",
    "sizes: [1], unit: null",
    "sizes: [1], place: [a]",
)


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_still_told(tmp_path: Path, arguments: str) -> None:
    node = f"{{_target_: {__name__}.Keeps, {arguments}}}"
    line = mistake_told(tmp_path, *SMALL, f"+callbacks.keeps={node}")
    assert line.startswith("error: callbacks.keeps.")


def test_a_path_that_names_no_file(tmp_path: Path) -> None:
    line = mistake_told(tmp_path, *SMALL, "callbacks.preemption.checkpoint_path=''")
    assert line.startswith("error: callbacks.preemption cannot be built: ")
    assert "checkpoint_path='' names no file" in line
