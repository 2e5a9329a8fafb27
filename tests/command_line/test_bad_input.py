"""Each mistake of a user ends in one line: cause, value, remedy; exit code 1, no traceback."""

import math
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict

from rl2_lightning.build import build_data, build_trainer
from rl2_lightning.config import check
from rl2_lightning.envs.bernoulli_bandit import BernoulliBandit
from rl2_lightning.errors import UserError
from tests.builders import compose_config
from tests.command_line.program import SMALL, call_program, mistake_told, run_program

# What is typed, and what the line must hold.
EARLY = {
    "unknown key": ("lerning_rate=1", "'lerning_rate'", "known are mode, seed"),
    "misspelt group": ("envv=x", "'envv'", "did you mean 'env'?"),
    "misspelt nested key": (
        "algorithm.lerning_rate=1",
        "'algorithm.lerning_rate'",
        "did you mean 'learning_rate'?",
    ),
    "misspelt key of the memory": ("network.memory.hiden_size=3", "did you mean 'hidden_size'?"),
    "added key": ("++algorithm.lerning_rate=1", "'algorithm.lerning_rate'", "leave it out"),
    "unknown choice": ("env=bandits", "env=bandits is unknown", "known are bernoulli_bandit"),
    "misspelt choice": ("network=grru", "network=grru is unknown", "did you mean 'gru'?"),
    "unknown experiment": ("experiment=mab", "experiment=mab is unknown", "mab_n10_k5"),
    "no number": ("algorithm.num_epochs=many", "algorithm.num_epochs=many", "whole number"),
    "no whole number": ("algorithm.num_epochs=1.5", "algorithm.num_epochs=1.5", "whole number"),
    "no switch": ("network.separate=maybe", "network.separate=maybe", "true or false"),
    "null": ("algorithm.num_epochs=null", "algorithm.num_epochs=null", "needs a value"),
    "no list": ("network.inputs=observation", "network.inputs=observation", "give a list"),
    "no equals sign": ("debug", "'debug'", "write field=value"),
    "unknown flag": ("seed=1 --foo=3", "unknown flag --foo", "fields have no dashes"),
    "misspelt flag": ("--multrun", "unknown flag --multrun", "did you mean '--multirun'?"),
    "number for a group": (
        "seed=2 algorithm=5",
        "error: algorithm=5 names no file",
        "write a file's name",
    ),
    "nothing for a group": ("env=null", "error: env=null names no file", "write a file's name"),
    "sweep without -m": ("seed=1,2", "seed=1,2", "--multirun"),
    "uneven batch": (
        "collection.num_trials=1001",
        "collection.num_trials=1001",
        "num_minibatches=8",
        "set collection.num_trials=1000",
    ),
    "uneven stage": (
        "+collection.curriculum={small:{env_steps:1000,num_trials:9}}",
        "collection.curriculum.small.num_trials=9",
        "set collection.curriculum.small.num_trials=8",
    ),
    "stage of no steps": (
        "+collection.curriculum={small:{env_steps:0,num_trials:8}}",
        "collection.curriculum.small.env_steps=0",
        "at least 1",
    ),
    "negative rate": ("algorithm.learning_rate=-1", "learning_rate=-1", "at least 0"),
    "discount": ("algorithm.gamma=1.5", "algorithm.gamma=1.5", "at most 1"),
    "layer of no width": (
        "network.encoder_hidden_sizes=[8,0]",
        "network.encoder_hidden_sizes=[8, 0]",
        "at least 1",
    ),
    "one arm": ("env.num_arms=1", "env.num_arms=1", "at least 2"),
    "no worse arm": (
        "env=dependent_bandit env.worse_arm=0.7",
        "env.worse_arm=0.7",
        "at most 0.5",
    ),
    "no noise": ("env=gaussian_bandit env.noise=0", "env.noise=0", "at least 0.01"),
    "impossible drift": (
        "env=restless_bandit env.high_volatility=2",
        "env.high_volatility=2",
        "at most 1",
    ),
    "rare common transition": (
        "env=two_step env.common_probability=0.3",
        "env.common_probability=0.3",
        "at least 0.5",
    ),
    "one action": ("env=tabular_mdp env.num_actions=1", "env.num_actions=1", "at least 2"),
    "unknown kind of goal": (
        "env=point_robot env.goals=ring",
        "env.goals=ring is unknown",
        "use env.goals=half_circle or env.goals=square",
    ),
    "goal of no radius": (
        "env=point_robot env.goal_radius=0",
        "env.goal_radius=0",
        "at least 0.01",
    ),
    "no mass": ("env=cart_pole env.cart_mass=[0,1]", "env.cart_mass=[0.0, 1.0]", "at least 0.1"),
    "range the wrong way round": (
        "env=pendulum env.gravity=[12,8]",
        "env.gravity=[12.0, 8.0] is no range",
        "give two numbers, the lower first",
    ),
    "range of one number": ("env=pendulum env.mass=[1]", "env.mass=[1.0] is no range", "two"),
    "maze without cells": ("env=visual_maze env.size=0", "env.size=0", "at least 2"),
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
    "skipped updates under float16": (
        "trainer.precision=16-mixed algorithm.target_kl=0.01",
        "algorithm.target_kl=0.01 with trainer.precision=16-mixed",
        "set trainer.precision=bf16-mixed",
    ),
    "spawned processes": ("trainer.strategy=ddp_spawn", "ddp_spawn", "set trainer.strategy=ddp"),
    "sweep over processes": (
        "-m seed=1,2 trainer.devices=2 trainer.strategy=ddp hydra.sweep.dir=sweep",
        "--multirun with trainer.devices=2",
        "a command of its own",
    ),
}


@pytest.mark.parametrize("mistake", EARLY)
def test_mistake_is_told_before_anything_heavy_is_loaded(tmp_path: Path, mistake: str) -> None:
    typed, *wanted = EARLY[mistake]
    done = run_program(tmp_path, *typed.split(), python_options=("-X", "importtime"))
    lines = done.stderr.splitlines()
    errors = [line for line in lines if not line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines if line not in errors}
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert not [words for words in wanted if words not in errors[0]], errors[0]
    assert done.returncode == 1
    assert not done.stdout
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "torchrl", "tensordict"}


def test_traceback_is_shown_on_demand(tmp_path: Path) -> None:
    done = run_program(tmp_path, "algorithm.gamma=1.5", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "rl2_lightning.errors.UserError: algorithm.gamma=1.5" in done.stderr


def bounded_fields(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, float, float]]:
    """Name and bounds of each field that has any."""
    schema = OmegaConf.get_type(cfg)
    metadata = {f.name: f.metadata for f in fields(schema)} if is_dataclass(schema) else {}
    for key, value in cfg.items():
        if isinstance(value, DictConfig):
            yield from bounded_fields(value, f"{prefix}{key}.")
        if bounds := metadata.get(key):
            yield f"{prefix}{key}", bounds["low"], bounds["high"]


@pytest.mark.parametrize("choice", ["debug=slow", "sweep=seedz"])
def test_unknown_choice_of_a_group_without_effect(tmp_path: Path, choice: str) -> None:
    with pytest.raises(MissingConfigException):
        compose_config(tmp_path, choice)


def test_every_bound_is_checked(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path)
    check(cfg, num_cores=1, multirun=False)
    bounds = list(bounded_fields(cfg))
    assert len(bounds) > 30
    for name, low, high in bounds:
        for value in [low - 1] + [2 * high + 1] * math.isfinite(high):
            broken = deepcopy(cfg)
            OmegaConf.update(broken, name, [value] if name.endswith("sizes") else value)
            with pytest.raises(UserError, match=rf"^{re.escape(name)}=.* is out of range: "):
                check(broken, num_cores=1, multirun=False)


def test_a_field_without_a_value_is_told(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path)
    cfg.algorithm.gamma = "???"
    with pytest.raises(UserError, match=r"^no value for algorithm\.gamma: give one"):
        check(cfg, num_cores=1, multirun=False)


def test_fewer_held_out_tasks_than_processes(tmp_path: Path) -> None:
    cfg = compose_config(
        tmp_path, "evaluation.test_tasks=3", "trainer.devices=4", "collection.num_trials=64"
    )
    with pytest.raises(UserError, match=r"^3 held-out tasks for 4 devices: set evaluation\."):
        check(cfg, num_cores=4, multirun=False)


LATE = {
    "profiler": ("trainer.profiler=fast", "trainer.profiler=fast cannot be used", "simple"),
    "strategy": ("trainer.strategy=dpp", "trainer.strategy=dpp cannot be used", "leave it out"),
    "field of the trainer": ("+trainer.devicse=2", "devicse", "leave it out"),
    "budget": (
        "collection.total_env_steps=15",
        "collection.total_env_steps=15 is less than the 16 env steps",
        "set collection.total_env_steps=16 or more",
    ),
    "no inputs": ("network.inputs=[]", "network.inputs=[]", "name at least one of observation"),
    "unknown input": ("network.inputs=[reward]", "'reward'", "previous_reward"),
    "unknown callback": (
        "callbacks.summary._target_=callbacks.sumary.Summary",
        "callbacks.summary cannot be built: ",
        "callbacks.sumary.Summary",
    ),
    "argument of a callback": (
        "callbacks.checkpoint.every_n_epochs=-3",
        "callbacks.checkpoint cannot be built: ",
        "every_n_epochs=-3",
    ),
}


@pytest.mark.parametrize("mistake", LATE)
def test_mistake_is_told_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mistake: str
) -> None:
    typed, *wanted = LATE[mistake]
    told = mistake_told(tmp_path, *SMALL, *typed.split())
    assert not [words for words in wanted if words not in told], told
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an accelerator")
def test_more_processes_than_cores_where_lightning_chooses(tmp_path: Path) -> None:
    # Not as a program: if this were let through, it would start them all.
    cfg = compose_config(tmp_path, "trainer.devices=512", "trainer.accelerator=auto")
    told = rf"^trainer.devices=512 but this machine has {os.cpu_count()} CPU core\(s\): set trainer"
    with pytest.raises(UserError, match=told):
        build_trainer(cfg, build_data(cfg))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is missing")
def test_missing_accelerator(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = mistake_told(tmp_path, *SMALL, "trainer.accelerator=gpu")
    assert "trainer.accelerator=gpu cannot be used: No supported gpu backend found" in told
    assert capfd.readouterr() == ("", "")


def test_weights_that_do_not_fit_other_sizes(tmp_path: Path, finished_run: Path) -> None:
    checkpoint = finished_run / "last.ckpt"
    given = (*SMALL, "mode=test", f"ckpt_path={checkpoint}", "evaluation.other_sizes=true")
    told = mistake_told(tmp_path, *given, "env.num_arms=3")
    assert told.startswith(f"error: ckpt_path={checkpoint} has network.")
    assert told.endswith("change only fields of env that leave these alone")
    assert "was trained with env._target_" in mistake_told(tmp_path, *given, "env=two_step")


def test_other_sizes_are_for_tests(tmp_path: Path, finished_run: Path) -> None:
    given = (*SMALL, f"ckpt_path={finished_run / 'last.ckpt'}", "evaluation.other_sizes=true")
    assert "this run has 3: set env.num_arms=5" in mistake_told(tmp_path, *given, "env.num_arms=3")


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("network.memory.hidden_size=9", "network.memory.hidden_size=8, this run has 9: set"),
        ("network=lstm", "was trained with network.memory._target_="),
        ("network.inputs=[previous_reward]", "was trained with network.inputs="),
        ("network.actor_hidden_sizes=[4]", "network.actor_hidden_sizes=[], this run has [4]: set"),
        ("network.critic_sees_task=true", "network.critic_sees_task=False, this run has True: set"),
        ("env.num_arms=3", "env.num_arms=5, this run has 3: set env.num_arms=5"),
    ],
)
def test_checkpoint_of_another_shape(
    tmp_path: Path, finished_run: Path, mode: str, typed: str, told: str
) -> None:
    checkpoint = finished_run / "last.ckpt"
    line = mistake_told(tmp_path, *SMALL, f"mode={mode}", f"ckpt_path={checkpoint}", typed)
    assert line.startswith(f"error: ckpt_path={checkpoint} ")
    assert told in line


def test_a_checkpoint_without_a_younger_field_is_of_its_default(
    tmp_path: Path, finished_run: Path
) -> None:
    checkpoint = torch.load(finished_run / "last.ckpt", weights_only=True)
    del checkpoint["hyper_parameters"]["network"]["critic_sees_task"]
    old = tmp_path / "old.ckpt"
    torch.save(checkpoint, old)
    call_program(tmp_path, *SMALL, "mode=test", f"ckpt_path={old}", f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "summary.json").exists()
    told = mistake_told(tmp_path, *SMALL, f"ckpt_path={old}", "network.critic_sees_task=true")
    assert "network.critic_sees_task=False, this run has True: set" in told


def test_a_critic_of_tasks_without_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_parameters(self: BernoulliBandit, num_tasks: int) -> TensorDict:
        return TensorDict({}, [num_tasks])

    monkeypatch.setattr(BernoulliBandit, "sample_tasks", no_parameters)
    assert mistake_told(tmp_path, *SMALL, "network.critic_sees_task=true") == (
        "error: network.critic_sees_task=true but the tasks of BernoulliBandit have no "
        "parameters: set network.critic_sees_task=false"
    )


def test_weights_of_another_shape(tmp_path: Path, finished_run: Path) -> None:
    start = f"start_from={finished_run / 'last.ckpt'}"
    told = mistake_told(tmp_path, *SMALL, start, "network.memory.hidden_size=9")
    assert told.startswith(f"error: {start} was trained with network.memory.hidden_size=8")
    assert not list(tmp_path.glob("*.ckpt"))


def test_truncated_checkpoint(tmp_path: Path, finished_run: Path) -> None:
    whole = (finished_run / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    done = run_program(tmp_path, *SMALL, "mode=test", "ckpt_path=cut.ckpt")
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr == (
        f"error: ckpt_path=cut.ckpt ({len(whole) // 2} bytes) is not a whole checkpoint of this "
        "program: it may be cut short; use another one\n"
    )


@pytest.mark.parametrize("content", ["nothing", "text", "another program's"])
def test_file_that_is_no_checkpoint(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.ckpt"
    path.write_text("" if content == "nothing" else "hello")
    if content == "another program's":
        torch.save({"hyper_parameters": {"width": 3}}, path)
    told = mistake_told(tmp_path, *SMALL, "mode=train", f"ckpt_path={path}")
    assert f"ckpt_path={path} ({path.stat().st_size} bytes) is not a whole checkpoint" in told


def test_a_callback_is_switched_off_with_null(tmp_path: Path) -> None:
    call_program(tmp_path, *SMALL, f"hydra.run.dir={tmp_path}", "callbacks.summary=null")
    assert (tmp_path / "last.ckpt").exists()
    assert not (tmp_path / "summary.json").exists()
