"""A mistake on the command line ends in one line: cause, value, remedy; exit code 1, no traceback.

These are reported before anything heavy is loaded.
"""

import math
import os
import re
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from warnings import catch_warnings

import pytest
from hydra.errors import MissingConfigException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from rl2_lightning.config_checks import check
from rl2_lightning.errors import UserError
from rl2_lightning.parts import leave_out_foreign
from rl2_lightning.settings import make_settings
from tests.builders import ROOT, compose_config
from tests.command_line.program import mistake_told, start_program

# Arguments, and what the error line must contain.
EARLY = {
    "unknown key": ("lerning_rate=1", "'lerning_rate'", "known are mode, seed"),
    "misspelt group": ("envv=x", "'envv'", "did you mean 'env'?"),
    "misspelt nested key": (
        "learner.lerning_rate=1",
        "'learner.lerning_rate'",
        "did you mean 'learning_rate'?",
    ),
    "misspelt key of the memory": ("memory.hiden_size=3", "did you mean 'hidden_size'?"),
    "misspelt key of the critic": ("learner.critic.sees=true", "did you mean 'sees_task'?"),
    "misspelt key of the family": ("env.num_arm=3", "'env.num_arm'", "did you mean 'num_arms'?"),
    "key of another family": ("env=grid_navi env.num_arms=3", "'env.num_arms'", "size, horizon"),
    "added key": ("++collection.trials=1", "'collection.trials'", "leave it out"),
    "unknown choice": ("env=bandits", "env=bandits is unknown", "known are bernoulli_bandit"),
    "misspelt choice": ("memory=grru", "memory=grru is unknown", "did you mean 'gru'?"),
    "unknown choice of an optional group": ("tuned=x", "tuned=x is unknown", "known are bern"),
    "unknown experiment": ("experiment=mab", "experiment=mab is unknown", "mab_n10_k5"),
    "no number": ("collection.num_trials=many", "collection.num_trials=many", "whole number"),
    "no whole number": ("collection.burn_in=1.5", "collection.burn_in=1.5", "whole number"),
    "no switch": ("trial.continues=maybe", "trial.continues=maybe", "true or false"),
    "null": ("collection.num_trials=null", "collection.num_trials=null", "needs a value"),
    "no list": ("agent.inputs=observation", "agent.inputs=observation", "give a list"),
    "no stages": ("collection.curriculum=3", "collection.curriculum=3", "set its fields"),
    "lists within a list": (
        "agent.encoder_hidden_sizes=[[8]]",
        "agent.encoder_hidden_sizes=[[8]]",
        "give a list",
    ),
    "no equals sign": ("debug", "'debug'", "write field=value"),
    "unknown flag": ("seed=1 --foo=3", "unknown flag --foo", "fields have no dashes"),
    "misspelt flag": ("--multrun", "unknown flag --multrun", "did you mean '--multirun'?"),
    "number for a group": (
        "seed=2 learner=5",
        "error: learner=5 names no file",
        "give a file name",
    ),
    "nothing for a group": ("env=null", "error: env=null names no file", "give a file name"),
    "sweep without -m": ("seed=1,2", "seed=1,2", "--multirun"),
    "stage of no steps": (
        "+collection.curriculum={small:{env_steps:0,num_trials:8}}",
        "collection.curriculum.small.env_steps=0",
        "at least 1",
    ),
    "layer of no width": (
        "agent.encoder_hidden_sizes=[8,0]",
        "agent.encoder_hidden_sizes=[8, 0]",
        "at least 1",
    ),
    "burn-in without windows": ("collection.burn_in=3", "burn_in=3", "set collection.window"),
    "long burn-in": (
        "collection.window=3 collection.burn_in=5",
        "collection.burn_in=5",
        "collection.window=3",
        "at most 3",
    ),
    "two lengths": (
        "trial.steps_per_trial=3",
        "episodes_per_trial=10 and trial.steps_per_trial=3",
        "give one",
    ),
    "no length": (
        "trial.episodes_per_trial=null",
        "episodes_per_trial=null and trial.steps_per_trial=null",
        "give one",
    ),
    "unknown mode": ("mode=tset", "mode=tset", "use mode=train or mode=test"),
    "start from nothing": (
        "start_from=missing.ckpt",
        "start_from=missing.ckpt",
        "give the path of a checkpoint",
    ),
    "test of nothing": ("mode=test", "mode=test without a checkpoint", "add ckpt_path="),
    "no checkpoint there": (
        "mode=test ckpt_path=missing.ckpt",
        "ckpt_path=missing.ckpt",
        "give the path of a checkpoint",
    ),
    "more processes than cores": (
        "trainer.devices=4096 trainer.accelerator=cpu",
        "trainer.devices=4096",
        f"this machine has {os.cpu_count()} CPU core(s)",
        f"set trainer.devices={os.cpu_count()} or less",
    ),
    "precision": ("trainer.precision=33", "trainer.precision=33", "bf16-mixed"),
    "spawned processes": ("trainer.strategy=ddp_spawn", "ddp_spawn", "set trainer.strategy=ddp"),
    "sweep over processes": (
        "-m seed=1,2 trainer.devices=2 trainer.strategy=ddp hydra.sweep.dir=sweep",
        "--multirun with trainer.devices=2",
        "a command of its own",
    ),
}


# One of each kind: of flags, of Hydra's choices and fields, of values, of a run, and of a sweep.
IN_A_NEW_PROCESS = (
    "misspelt flag",
    "unknown choice",
    "unknown key",
    "key of another family",
    "no number",
    "long burn-in",
    "sweep over processes",
)
# What the program imports after its checks.
HEAVY = ("build", "parts", "resumed_config", "session", "stored_choices")


@pytest.mark.parametrize("mistake", IN_A_NEW_PROCESS)
def test_mistake_is_told_before_anything_heavy_is_loaded(tmp_path: Path, mistake: str) -> None:
    typed, *wanted = EARLY[mistake]
    done = start_program(tmp_path, *typed.split(), python_options=("-X", "importtime"))
    lines = done.stderr.splitlines()
    errors = [line for line in lines if not line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines if line not in errors}
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert not [words for words in wanted if words not in errors[0]], errors[0]
    assert done.returncode == 1
    assert not done.stdout or typed.startswith("-m ")
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "torchrl", "tensordict"}


@pytest.mark.parametrize("mistake", [name for name in EARLY if not EARLY[name][0].startswith("-m")])
def test_mistake_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    for name in HEAVY:
        monkeypatch.setitem(sys.modules, f"rl2_lightning.{name}", None)
    typed, *wanted = EARLY[mistake]
    line = mistake_told(tmp_path, *typed.split())
    assert not [words for words in wanted if words not in line], line
    assert capfd.readouterr() == ("", "")


def test_traceback_is_shown_on_demand(tmp_path: Path) -> None:
    done = start_program(tmp_path, "learner.gamma=1.5", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "rl2_lightning.errors.UserError: learner.gamma=1.5" in done.stderr


def bounded_fields(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, float, float]]:
    """The name and bounds of each field that has bounds."""
    schema = OmegaConf.get_type(cfg)
    metadata = {f.name: f.metadata for f in fields(schema)} if is_dataclass(schema) else {}
    for key, value in cfg.items():
        if isinstance(value, DictConfig):
            yield from bounded_fields(value, f"{prefix}{key}.")
        if "low" in metadata.get(key, {}):
            yield f"{prefix}{key}", metadata[key]["low"], metadata[key]["high"]


def broken_configs(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """The config with one field out of its bounds, below and above, and the field's name."""
    for name, low, high in bounded_fields(cfg):
        for value in [low - 1] + [2 * high + 1] * math.isfinite(high):
            broken = deepcopy(cfg)
            is_list = OmegaConf.is_list(OmegaConf.select(cfg, name))
            OmegaConf.update(broken, name, [value, value] if is_list else value)
            yield name, broken


@pytest.mark.parametrize("choice", ["debug=slow", "sweep=seedz"])
def test_unknown_choice_of_a_group_without_effect(tmp_path: Path, choice: str) -> None:
    with pytest.raises(MissingConfigException):
        compose_config(tmp_path, choice)


def test_every_bound_is_checked(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path)
    check(cfg, num_cores=1, multirun=False)
    broken = list(broken_configs(cfg))
    assert len(broken) >= 15
    for name, one in broken:
        with pytest.raises(UserError, match=rf"^{re.escape(name)}=.* is out of range: "):
            check(one, num_cores=1, multirun=False)


CLASSES = [
    (file.parent.name, file.stem)
    for group in ("env", "memory", "learner")
    for file in sorted((ROOT / "configs" / group).glob("*.yaml"))
]


@pytest.mark.parametrize(("group", "name"), CLASSES)
def test_every_bound_of_a_class_is_checked(tmp_path: Path, group: str, name: str) -> None:
    cfg = compose_config(tmp_path, f"{group}={name}")
    with catch_warnings(action="ignore"):
        leave_out_foreign(cfg, [])
    values = OmegaConf.to_container(cfg[group])
    schema = get_class(values.pop("_target_")).Settings
    make_settings(schema, values, group)
    whole = OmegaConf.merge(OmegaConf.structured(schema), values)
    for field, broken in broken_configs(whole):
        told = rf"^{group}\.{re.escape(field)}=.* is out of range: "
        with pytest.raises(UserError, match=told):
            make_settings(schema, broken, group)


def test_a_field_without_a_value_is_told(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path)
    cfg.learner.gamma = "???"
    with pytest.raises(UserError, match=r"^no value for learner\.gamma: give one"):
        check(cfg, num_cores=1, multirun=False)


def test_fewer_held_out_tasks_than_processes(tmp_path: Path) -> None:
    cfg = compose_config(
        tmp_path, "evaluation.test_tasks=3", "trainer.devices=4", "collection.num_trials=64"
    )
    with pytest.raises(UserError, match=r"^3 held-out tasks for 4 devices: set evaluation\."):
        check(cfg, num_cores=4, multirun=False)
