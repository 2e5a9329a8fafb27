"""What a stranger's checkpoint names of a Gymnasium environment is neither imported nor called."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning.families.gymnasium.env import GymnasiumSettings
from rl2_lightning.settings import Settings, names_code, names_no_code
from tests.command_line.program import SMALL, call_program, mistake_told

CHOSEN = (*SMALL, "env=gymnasium", "env.horizon=5")
NAMING = [name for name in vars(GymnasiumSettings()) if not names_no_code(GymnasiumSettings, name)]
TRACE = "from pathlib import Path\nPath(__file__).with_suffix('.trace').touch()\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trained")
    call_program(folder, *CHOSEN, f"hydra.run.dir={folder}")
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_fields_that_name_code() -> None:
    naming = {"id", "kwargs", "wrapper", "task_name", "sampler", "training_tasks", "held_out_tasks"}
    assert set(NAMING) == naming


@dataclass
class Inner(Settings):
    wrapper: str | None = names_code(None)
    size: int = 3


@dataclass
class Outer(Settings):
    kwargs: dict[str, Any] = names_code({})
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("name", "is_free"),
    [
        ("kwargs", False),
        ("kwargs.colour", False),
        ("inner", True),
        ("inner.wrapper", False),
        ("inner.size", True),
    ],
)
def test_fields_of_nested_settings_name_code(name: str, is_free: bool) -> None:
    assert names_no_code(Outer, name) == is_free


@pytest.mark.parametrize("name", NAMING)
@pytest.mark.parametrize("mode", ["train", "test"])
def test_a_stored_name_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: dict[str, Any],
    name: str,
    mode: str,
) -> None:
    (tmp_path / "stranger.py").write_text(TRACE)
    monkeypatch.syspath_prepend(tmp_path)
    content = deepcopy(trained)
    value = {"x": "stranger:run"} if name == "kwargs" else "stranger:run"
    content["hyper_parameters"]["env"][name] = value
    torch.save(content, tmp_path / "stranger.ckpt")
    line = mistake_told(tmp_path, *SMALL, f"mode={mode}", f"ckpt_path={tmp_path}/stranger.ckpt")
    assert f"was trained with env.{name}" in line
    assert "stranger:run" in line
    assert not (tmp_path / "stranger.trace").exists()


def test_other_fields_are_taken_from_the_checkpoint(
    tmp_path: Path, trained: dict[str, Any]
) -> None:
    torch.save(trained, tmp_path / "kept.ckpt")
    given = ("mode=test", f"ckpt_path={tmp_path}/kept.ckpt", f"hydra.run.dir={tmp_path}/run")
    call_program(tmp_path, *SMALL, *given)
    assert (tmp_path / "run" / "summary.json").exists()
