"""With `ckpt_path` alone, the stored config is used, with the command's overrides on top."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import register_schemas
from rl2_lightning.resumed_config import resumed
from rl2_lightning.stored_choices import choices_of
from tests.builders import ROOT
from tests.command_line.program import SMALL, call_program, mistake_told


@pytest.fixture(scope="module")
def unlike_the_defaults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with fields that differ from the defaults."""
    run = tmp_path_factory.mktemp("run")
    chosen = ("memory=lstm", "memory.hidden_size=6", "env.num_arms=3", "learner.learning_rate=0.02")
    call_program(run, *SMALL, *chosen, "seed=7", f"hydra.run.dir={run}")
    return run


def config(run: Path) -> dict:
    return OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_checkpoint_tells_all(tmp_path: Path, unlike_the_defaults: Path, by: str) -> None:
    path = unlike_the_defaults / "last.ckpt" if by == "file" else unlike_the_defaults
    run = tmp_path / "run"
    call_program(tmp_path, f"ckpt_path={path}", "mode=test", f"hydra.run.dir={run}")
    left, right = (
        json.loads((one / "summary.json").read_text()) for one in (run, unlike_the_defaults)
    )
    assert left["agent"] == right["agent"]
    assert left["references"] == right["references"]


def test_what_is_set_is_set(
    tmp_path: Path, unlike_the_defaults: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    chosen = ("learner.learning_rate=0.01", "trainer.max_epochs=2", "collection.burn_in=0")
    call_program(tmp_path, f"ckpt_path={unlike_the_defaults}", *chosen, f"hydra.run.dir={run}")
    found, stored = config(run), config(unlike_the_defaults)
    assert found["learner"] == {**stored["learner"], "learning_rate": 0.01}
    for group in ("env", "trial", "collection", "evaluation", "agent", "memory", "seed"):
        assert found[group] == stored[group], group
    told = capsys.readouterr().out
    assert "learner.learning_rate was 0.02 in " in told
    assert "trainer.max_epochs was 1 in " in told
    assert "burn_in was" not in told


def test_another_budget_says_what_becomes_of_the_learning_rate(
    tmp_path: Path, unlike_the_defaults: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("collection.total_env_steps=4_400_000", "trainer.max_epochs=2")
    place = f"hydra.run.dir={tmp_path / 'run'}"
    call_program(tmp_path, f"ckpt_path={unlike_the_defaults}", *chosen, place)
    assert "is 4400000 now: the spent part of the budget is 0.5 times" in capsys.readouterr().out


COUNTED_BY = (
    "collection.num_trials=16",
    "collection.uses_curriculum=true",
    "+collection.curriculum={a:{env_steps:16,num_trials:8}}",
)


@pytest.mark.parametrize("field", COUNTED_BY)
def test_what_iterations_are_counted_by_stays(
    tmp_path: Path, unlike_the_defaults: Path, field: str
) -> None:
    line = mistake_told(tmp_path, f"ckpt_path={unlike_the_defaults}", field)
    assert "a training cannot change it half way" in line
    assert line.endswith("or start a new training with start_from")


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    line = mistake_told(tmp_path, f"ckpt_path={tmp_path}")
    assert line.startswith(f"error: ckpt_path={tmp_path} is a folder without last.ckpt")


def test_a_class_that_no_file_names_is_not_imported(
    tmp_path: Path, unlike_the_defaults: Path
) -> None:
    content = torch.load(unlike_the_defaults / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["env"]["_target_"] = "os.system"
    torch.save(content, tmp_path / "strange.ckpt")
    line = mistake_told(tmp_path, f"ckpt_path={tmp_path / 'strange.ckpt'}")
    assert "was trained with env._target_=os.system, which none of env=bernoulli_bandit" in line
    assert line.endswith("with --config-dir")


@pytest.mark.parametrize("budget", ["0", "-5"])
def test_a_budget_out_of_range(tmp_path: Path, unlike_the_defaults: Path, budget: str) -> None:
    field = f"collection.total_env_steps={budget}"
    line = mistake_told(tmp_path, f"ckpt_path={unlike_the_defaults}", field)
    assert line == f"error: {field} is out of range: set it to at least 1"


def test_a_test_has_the_precision_of_the_training(
    tmp_path: Path, unlike_the_defaults: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(unlike_the_defaults / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["trainer"]["precision"] = "bf16-mixed"
    path = tmp_path / "mixed.ckpt"
    torch.save(content, path)
    for name, given in {"bf16-mixed": (), "32-true": ("trainer.precision=32-true",)}.items():
        run = tmp_path / name
        call_program(tmp_path, "mode=test", f"ckpt_path={path}", *given, f"hydra.run.dir={run}")
        assert config(run)["trainer"]["precision"] == name
        assert config(run)["trainer"]["max_epochs"] is None
    assert "trainer.precision was bf16-mixed in " in capsys.readouterr().out


def test_other_devices_are_told_with_what_follows(
    unlike_the_defaults: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(unlike_the_defaults / "last.ckpt")
    given = [*choices_of(Checkpoint.read(path), path), "trainer.devices=2"]
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", ["output_dir=.", f"ckpt_path='{path}'", *given])
        assert resumed(cfg, given).trainer.devices == 2
    told = capsys.readouterr().out
    assert f"trainer.devices was 1 in {path}, and is 2 now: each iteration has as many" in told
