"""A small checkpoint."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning import Agent
from rl2_lightning.checkpoint import Checkpoint, describe
from rl2_lightning.errors import UserError


def content_of(agent: Agent) -> dict[str, Any]:
    """A small checkpoint with all entries of a training's."""
    state = {f"agent.{name}": tensor for name, tensor in agent.state_dict().items()}
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}
    return {
        "state_dict": OrderedDict(state, **{"clock.iterations_done": torch.tensor(7)}),
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 0.1, "params": [0]}]}],
        "loops": {"fit_loop": {"state_dict": {}}},
        "hyper_parameters": {"env": {"_target_": "a.b", "noise": None, "range": [1, 2.5]}},
        "callbacks": {"best": {"score": torch.tensor(torch.inf)}},
        "epoch": 7,
        **describe(agent.spec.to_plain()),
    }


def saved(content: Any, folder: Path) -> Path:
    path = folder / "some.ckpt"
    torch.save(content, path)
    return path


def told_of(path: Path, field: str | None = None) -> str:
    with pytest.raises(UserError) as told:
        Checkpoint.read(path, field)
    text = str(told.value)
    assert "\n" not in text
    assert str(path) in text
    return text
