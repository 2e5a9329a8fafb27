"""Checkpoints damaged in one place are rejected in one line, or used with correct results."""

import copy
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.command_line.program import PLAIN, call_program, told

WAYS = ("ckpt_path={}", "ckpt_path={} mode=test", "start_from={}")
Damage = Callable[[bytes], bytes]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def zeroed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes(64) + data[place + 64 :]


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    content = torch.load(io.BytesIO(data), weights_only=True)
    change(content)
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def put(content: dict[str, Any], key: str, value: Any) -> None:
    content[key] = value


def put_weight(content: dict[str, Any], key: str, change: Callable[[Any], Any]) -> None:
    content["state_dict"][key] = change(content["state_dict"][key])


def damages(data: bytes) -> Iterator[tuple[str, Damage]]:
    """Yield damages to the bytes of a checkpoint, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if member.file_size:
                name = member.filename.partition("/")[2]
                place = member.header_offset + 64 + len(member.filename)
                middle = min(place + member.file_size // 2, len(data) - 1)
                yield f"flip {name}", partial(flipped, place=middle)
                yield f"zero {name}", partial(zeroed, place=middle)
    for share in range(10):
        yield f"cut {share}", lambda whole, share=share: whole[: len(whole) * share // 10]
    content = torch.load(io.BytesIO(data), weights_only=True)
    for key in content:
        yield f"without {key}", partial(changed, change=lambda c, key=key: c.pop(key))
        for value in (None, [], 3, "x"):
            put_value = partial(put, key=key, value=value)
            yield f"{key} is {value!r}", partial(changed, change=put_value)
    for key, tensor in content["state_dict"].items():
        yield (
            f"without weight {key}",
            partial(changed, change=lambda c, key=key: c["state_dict"].pop(key)),
        )
        kinds: dict[str, Callable[[Any], Any]] = {
            "another dtype": lambda t: t.double() if t.is_floating_point() else t.float(),
            "another shape": lambda t: t.unsqueeze(-1).expand(*t.shape, 2).clone(),
            "no tensor": lambda t: None,
        }
        if tensor.is_floating_point() and tensor.numel():
            kinds["nan"] = lambda t: torch.full_like(t, torch.nan)
            kinds["infinite"] = lambda t: torch.full_like(t, torch.inf)
        for kind, change in kinds.items():
            yield (
                f"{kind} {key}",
                partial(changed, change=partial(put_weight, key=key, change=change)),
            )


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())["agent"]


def check(folder: Path, run: Path, chosen: list[tuple[str, Damage]]) -> None:
    """Use each damaged file in each way: it is rejected, or gives the intact file's results."""
    data = (run / "last.ckpt").read_bytes()
    right = {}
    for number, way in enumerate(WAYS):
        place = folder / f"right{number}"
        given = way.format(run / "last.ckpt").split()
        call_program(folder, *PLAIN, *given, "trainer.max_epochs=2", f"hydra.run.dir={place}")
        right[way] = summary(place)
    counts, wrong = {"used": 0, "refused": 0}, []
    for number, (name, damage) in enumerate(chosen):
        path = folder / f"{number}.ckpt"
        path.write_bytes(damage(copy.copy(data)))
        for way in WAYS:
            place = folder / f"{number}_{WAYS.index(way)}"
            given = way.format(path).split()
            line = told(folder, *PLAIN, *given, "trainer.max_epochs=2", f"hydra.run.dir={place}")
            if line is not None:
                counts["refused"] += 1
                continue
            counts["used"] += 1
            if summary(place) != right[way]:
                wrong.append((name, way))
    print(f"{len(chosen)} damaged files in {len(WAYS)} ways: {counts}")  # noqa: T201
    assert not wrong
    assert counts["refused"] > 0


def test_some_damages(tmp_path: Path, finished_run: Path) -> None:
    every = list(damages((finished_run / "last.ckpt").read_bytes()))
    check(tmp_path, finished_run, random.Random(0).sample(every, 6))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_all_damages(tmp_path: Path, finished_run: Path, part: int) -> None:
    every = list(damages((finished_run / "last.ckpt").read_bytes()))
    check(tmp_path, finished_run, every[part::20])
