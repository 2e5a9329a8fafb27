"""What a stranger's checkpoint names of a Gymnasium environment is neither imported nor called."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from rl2_lightning.families.gymnasium.settings import GymnasiumSettings
from rl2_lightning.settings import Settings, names_code, names_no_code
from tests.command_line.program import PLAIN, call_program, mistake_told

CHOSEN = (*PLAIN, "env=gymnasium", "env.horizon=5")
NAMING = [name for name in vars(GymnasiumSettings()) if not names_no_code(GymnasiumSettings, name)]
TRACE = "from pathlib import Path\nPath(__file__).with_suffix('.trace').touch()\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trained")
    call_program(folder, *CHOSEN, f"hydra.run.dir={folder}")
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_fields_that_name_code() -> None:
    naming = {
        "id",
        "kwargs",
        "wrapper",
        "wrappers",
        "task_name",
        "sampler",
        "training_tasks",
        "held_out_tasks",
    }
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
    value = {"kwargs": {"x": "stranger:run"}, "wrappers": ["stranger:run"]}.get(
        name, "stranger:run"
    )
    content["hyper_parameters"]["env"][name] = value
    torch.save(content, tmp_path / "stranger.ckpt")
    line = mistake_told(tmp_path, *PLAIN, f"mode={mode}", f"ckpt_path={tmp_path}/stranger.ckpt")
    assert f"was trained with env.{name}" in line
    assert "stranger:run" in line
    assert not (tmp_path / "stranger.trace").exists()


# An experiment and a file of the group that name code of their own.
OWN_FILES = {
    "experiment/own_car.yaml": """
# @package _global_
defaults: [gymnasium_mountain_car]
env: {kwargs: {goal_velocity: 0.01}}
""",
    "env/own_counter.yaml": """
# @package _global_
defaults: [gymnasium]
env: {id: "tests.families.gymnasium.envs:Counting", task_by: method, tasks: 3}
""",
}
CHOICES = ["experiment=gymnasium_cart_pole", "experiment=gymnasium_mountain_car"]
OWN_CHOICES = ["experiment=own_car", "env=own_counter"]


@pytest.mark.parametrize("choice", [*CHOICES, *OWN_CHOICES])
def test_code_that_the_configuration_names_is_taken(tmp_path: Path, choice: str) -> None:
    for name, content in OWN_FILES.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(content)
    folder = (f"--config-dir={tmp_path / 'own'}", "trust_targets=[tests]")
    folder = folder if choice in OWN_CHOICES else ()
    runs = tmp_path / "first", tmp_path / "second"
    call_program(tmp_path, *folder, *PLAIN, choice, "env.horizon=5", f"hydra.run.dir={runs[0]}")
    more = ("trainer.max_epochs=2", f"hydra.run.dir={runs[1]}")
    call_program(tmp_path, *folder, f"ckpt_path={runs[0]}", *more)
    first, second = (OmegaConf.load(run / "config.yaml") for run in runs)
    assert first.env == second.env
    epochs = [torch.load(run / "last.ckpt", weights_only=True)["epoch"] for run in runs]
    assert epochs[1] == epochs[0] + 1


@pytest.mark.parametrize(
    ("name", "value"), [("kwargs", {"goal_velocity": 9.0}), ("id", "Pendulum-v1")]
)
def test_code_is_taken_as_a_whole(
    tmp_path: Path, trained: dict[str, Any], name: str, value: Any
) -> None:
    content = deepcopy(trained)
    content["hyper_parameters"]["env"] |= {"id": "MountainCarContinuous-v0", name: value}
    torch.save(content, tmp_path / "mixed.ckpt")
    line = mistake_told(tmp_path, "mode=test", f"ckpt_path={tmp_path}/mixed.ckpt")
    assert "was trained with env.id=" in line


def test_other_fields_are_taken_from_the_checkpoint(
    tmp_path: Path, trained: dict[str, Any]
) -> None:
    torch.save(trained, tmp_path / "kept.ckpt")
    given = ("mode=test", f"ckpt_path={tmp_path}/kept.ckpt", f"hydra.run.dir={tmp_path}/run")
    call_program(tmp_path, *PLAIN, *given)
    assert (tmp_path / "run" / "summary.json").exists()
