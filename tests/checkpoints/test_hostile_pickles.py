"""Nothing that an untrusted file pickles is ever called."""

import importlib
import os
import pickle
import runpy
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning import Agent
from rl2_lightning.checkpoint import SECTION
from rl2_lightning.errors import UserError
from tests.checkpoints.contents import content_of, told_of


class Calls:
    """Its pickle calls something when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Builds(dict):
    """Its pickle calls something with a state when it is read."""

    def __init__(self, call: Calls) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return (OrderedDict, (), {"state": self.call})


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "shell": lambda trace: Calls(os.system, f"touch {trace}"),
    "process": lambda trace: Calls(subprocess.check_call, ["touch", str(trace)]),
    "expression": lambda trace: Calls(eval, f"open({str(trace)!r}, 'w').close()"),
    "statement": lambda trace: Calls(exec, f"open({str(trace)!r}, 'w').close()"),
    "file": lambda trace: Calls(open, str(trace), "w"),
    "path": lambda trace: Calls(Path.touch, trace),
    "copy": lambda trace: Calls(shutil.copy, __file__, str(trace)),
    "module": lambda trace: Calls(importlib.import_module, "tests.leaves_a_trace"),
    "script": lambda trace: Calls(runpy.run_path, str(trace.with_name("script.py"))),
    "state": lambda trace: Builds(Calls(os.system, f"touch {trace}")),
    "within torch": lambda trace: Calls(torch.save, {}, str(trace)),
}


@pytest.mark.parametrize("place", ["beside", "weights", "config", "spec", "legacy", "bare"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_pickles_leave_no_trace(
    tmp_path: Path, agent: Agent, monkeypatch: pytest.MonkeyPatch, hostile: str, place: str
) -> None:
    trace = tmp_path / "trace"
    write = f"from pathlib import Path\nPath({str(trace)!r}).touch()\n"
    (tmp_path / "script.py").write_text(write)
    (tmp_path / "leaves_a_trace.py").write_text(write)
    monkeypatch.setattr("tests.__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tests.leaves_a_trace", raising=False)
    content, evil = content_of(agent), HOSTILE[hostile](trace)
    if place == "weights":
        content["state_dict"]["agent.policy.layers.0.bias"] = evil
    elif place == "config":
        content["hyper_parameters"]["env"]["num_arms"] = evil
    elif place == "spec":
        content[SECTION]["agent"]["memory"]["hidden_size"] = evil
    else:
        content["beside"] = evil
    path = tmp_path / "stranger.ckpt"
    if place == "bare":
        path.write_bytes(pickle.dumps(content["beside"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=place != "legacy")
    # Unprotected loading would call it.
    if place == "bare":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()
    trace.unlink()
    monkeypatch.delitem(sys.modules, "tests.leaves_a_trace", raising=False)

    before = sorted(tmp_path.iterdir())
    assert "is not a whole checkpoint of this program" in told_of(path)
    with pytest.raises(UserError):
        Agent.load(path)
    assert sorted(tmp_path.iterdir()) == before
