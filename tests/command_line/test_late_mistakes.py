"""Mistakes that only the configured classes can detect: one line each, and no traceback."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.build import require_machine
from rl2_lightning.errors import UserError
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from tests.builders import compose_config
from tests.command_line.program import PLAIN, call_program, mistake_told

# Arguments, and what the error line must contain.
LATE = {
    "added key": ("++learner.lerning_rate=1", "'learner.lerning_rate'", "known are critic, learn"),
    "no number": ("learner.num_epochs=many", "learner.num_epochs=many", "whole number"),
    "no whole number": ("learner.num_epochs=1.5", "learner.num_epochs=1.5", "whole number"),
    "no switch": (
        "learner.critic.separate=maybe",
        "learner.critic.separate=maybe",
        "true or false",
    ),
    "null": ("learner.num_epochs=null", "learner.num_epochs=null", "needs a value"),
    "critic of no width": (
        "learner.critic.hidden_sizes=[8,0]",
        "learner.critic.hidden_sizes=[8, 0]",
        "at least 1",
    ),
    "memory of too great a width": (
        "memory.hidden_size=99999999999",
        "not enough memory: ",
        "lower collection.num_trials",
    ),
    "memory of no width": ("memory.hidden_size=0", "memory.hidden_size=0", "at least 1"),
    "heads that do not share a width": (
        "memory=matrix memory.hidden_size=8 memory.num_heads=3",
        "memory.hidden_size=8 does not divide into memory.num_heads=3",
        "set memory.hidden_size=9",
    ),
    "burn-in of nothing": (
        "memory=matrix memory.num_layers=0 collection.window=2 collection.burn_in=1",
        "collection.burn_in=1 for a memory without a state",
        "set collection.burn_in=0",
    ),
    "queries without a layer": (
        "agent.policy_head=action_queries",
        "agent.policy_hidden_sizes=[]",
        "agent.policy_hidden_sizes=[64]",
    ),
    "belief of no size": (
        "learner=varibad agent.belief.size=0",
        "agent.belief.size=0 is out of range",
        "at least 1",
    ),
    "no belief": (
        "learner=varibad agent=default",
        "agent.belief.form=none",
        "use agent=belief",
    ),
    "belief beside queries": (
        "agent=belief agent.policy_head=action_queries",
        "agent.belief.form=moments with agent.policy_head=action_queries",
        "use agent.policy_head=layers",
    ),
    "decoder of images": (
        "env=visual_maze env.size=2 learner=varibad learner.decoder.state_coefficient=1",
        "learner.decoder.state_coefficient",
        "an image: set learner.decoder.state_coefficient=0",
    ),
    "decoder of nothing": (
        "learner=varibad learner.decoder.reward_coefficient=0",
        "learner.decoder without anything to decode",
        "set learner.decoder.reward_coefficient=1",
    ),
    "decoder of positive means": (
        "collection.expected_rewards=true learner=varibad learner.replay.batch_size=8 "
        "learner.decoder.reward_likelihood=bernoulli",
        "learner.decoder.reward_likelihood=bernoulli with collection.expected_rewards=true",
        "set collection.expected_rewards=false",
    ),
    "queries for numbers": (
        "env=point_robot agent.policy_head=action_queries agent.policy_hidden_sizes=[8]",
        "agent.policy_head=action_queries",
        "agent.policy_head=layers",
    ),
    "heads of no even width": (
        "memory=gated_transformer memory.num_heads=5",
        "memory.hidden_size=8 does not divide into memory.num_heads=5",
        "set memory.hidden_size=10",
    ),
    "trial longer than a memory": (
        "memory=snail trial.episodes_per_trial=101",
        "memory.max_steps=100",
        "101 env steps of a trial",
        "memory.max_steps=101",
    ),
    "uneven batch": (
        "collection.num_trials=1001 learner.num_minibatches=8",
        "collection.num_trials=1001",
        "num_minibatches=8",
        "set collection.num_trials=1000",
    ),
    "negative rate": ("learner.learning_rate=-1", "learning_rate=-1", "at least 0"),
    "discount": ("learner.gamma=1.5", "learner.gamma=1.5", "at most 1"),
    "skipped updates under float16": (
        "trainer.precision=16-mixed learner.target_kl=0.01",
        "learner.target_kl=0.01 with trainer.precision=16-mixed",
        "set trainer.precision=bf16-mixed",
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
        "env.gravity=[12.0, 8.0] is not a range",
        "give two numbers, the lower one first",
    ),
    "range of one number": ("env=pendulum env.mass=[1]", "env.mass=[1.0] is not a range", "two"),
    "maze without cells": ("env=visual_maze env.size=0", "env.size=0", "at least 2"),
    "profiler": ("trainer.profiler=fast", "trainer.profiler=fast cannot be used", "simple"),
    "strategy": ("trainer.strategy=dpp", "trainer.strategy=dpp cannot be used", "leave it out"),
    "field of the trainer": ("+trainer.devicse=2", "devicse", "leave it out"),
    "budget": (
        "collection.total_env_steps=15",
        "collection.total_env_steps=15 is less than the 16 env steps",
        "set collection.total_env_steps=16 or more",
    ),
    "no inputs": ("agent.inputs=[]", "agent.inputs=[]", "name at least one of observation"),
    "unknown input": ("agent.inputs=[reward]", "'reward'", "previous_reward"),
    "unknown callback": (
        "callbacks.summary._target_=rl2_lightning.callbacks.sumary.Summary",
        "cannot be imported: ",
        "rl2_lightning.callbacks.sumary.Summary",
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
    told = mistake_told(tmp_path, *PLAIN, *typed.split())
    assert not [words for words in wanted if words not in told], told
    assert capfd.readouterr() == ("", "")


def test_discounts_of_a_single_step(tmp_path: Path) -> None:
    choice = ("debug=fast", "trainer.accelerator=cpu", "learner=meta_gradient")
    folder = tmp_path / "run"
    line = mistake_told(tmp_path, *choice, "trial.episodes_per_trial=1", f"hydra.run.dir={folder}")
    assert "gamma and gae_lambda have no effect in trials of 1 env step; make trials long" in line
    assert not any(folder.iterdir()), "nothing has begun"


def test_an_uneven_stage(tmp_path: Path) -> None:
    typed = "+collection.curriculum={small:{env_steps:1000,num_trials:9}}"
    assert mistake_told(tmp_path, typed) == (
        "error: collection.curriculum.small.num_trials=9 does not divide into "
        "learner.num_minibatches=4 on 1 device(s): set collection.curriculum.small.num_trials=8"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an accelerator")
def test_more_processes_than_cores_where_lightning_chooses(tmp_path: Path) -> None:
    # Not as a program: if this were accepted, it would start all processes.
    cfg = compose_config(tmp_path, "trainer.devices=512", "trainer.accelerator=auto")
    told = rf"^trainer.devices=512 but this machine has {os.cpu_count()} CPU core\(s\): set trainer"
    with pytest.raises(UserError, match=told):
        require_machine(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is missing")
def test_missing_accelerator(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = mistake_told(tmp_path, *PLAIN, "trainer.accelerator=gpu")
    assert "trainer.accelerator=gpu cannot be used: No supported gpu backend found" in told
    assert capfd.readouterr() == ("", "")


def test_a_critic_of_tasks_without_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_parameters(self: BernoulliBandit, num_tasks: int) -> TensorDict:
        return TensorDict({}, [num_tasks])

    monkeypatch.setattr(BernoulliBandit, "sample_tasks", no_parameters)
    monkeypatch.setattr("rl2_lightning.build.rehearse", lambda task_env: None)
    assert mistake_told(tmp_path, *PLAIN, "learner.critic.sees_task=true") == (
        "error: learner.critic.sees_task=true but the tasks of this family have no "
        "parameters: set learner.critic.sees_task=false"
    )


@pytest.mark.parametrize(
    ("target", "also"),
    [
        ("EarlyStopping", "check_on_train_epoch_end: true"),
        ("ModelCheckpoint", "save_on_train_epoch_end: true, filename: best"),
    ],
)
def test_a_monitored_metric_that_there_is_not(tmp_path: Path, target: str, also: str) -> None:
    node = f"_target_: lightning.pytorch.callbacks.{target}, monitor: train/retrun, {also}"
    line = mistake_told(tmp_path, *PLAIN, f"+callbacks.mine={{{node}}}")
    said = "callbacks.mine.monitor=train/retrun is not a metric of this run: did you mean "
    assert said + "train/return" in line


def test_a_callback_is_switched_off_with_null(tmp_path: Path) -> None:
    call_program(tmp_path, *PLAIN, f"hydra.run.dir={tmp_path}", "callbacks.summary=null")
    assert (tmp_path / "last.ckpt").exists()
    assert not (tmp_path / "summary.json").exists()


GROUPS = {
    "env": ("TaskEnv", "rl2_lightning.families.task_env.TaskEnv"),
    "memory": ("Memory", "rl2_lightning.agents.memories.memory.Memory"),
    "learner": ("Learner", "rl2_lightning.learners.learner.Learner"),
}
TARGETS = {
    "no such module": ("no_such_module.Class", "cannot be imported: ModuleNotFoundError: "),
    "no such class": ("os.path.Clas", "cannot be imported: AttributeError: "),
    "a word": ("Class", "cannot be imported: ValueError: "),
    "a module that breaks": ("breaking_module.Class", "cannot be imported: RuntimeError: one two;"),
    "a function": ("os.system", None),
    "a module": ("os.path", None),
    "a number": ("math.pi", None),
    "another class": ("collections.OrderedDict", None),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("group", GROUPS)
def test_what_is_no_class_of_the_group(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    group: str,
    kind: str,
) -> None:
    (tmp_path / "breaking_module.py").write_text("raise RuntimeError('one\\ntwo')")
    monkeypatch.syspath_prepend(tmp_path)
    target, told = TARGETS[kind]
    line = mistake_told(tmp_path, *PLAIN, f"{group}._target_={target}")
    name, base = GROUPS[group]
    if told is None:
        assert (
            line == f"error: {group}._target_={target} is not a {name}: name a subclass of {base}"
        )
    else:
        assert line.startswith(f"error: {group}._target_={target} {told}")
        assert line.endswith("; name a class as package.module.Class")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("group", GROUPS)
def test_a_class_that_is_not_complete(tmp_path: Path, group: str) -> None:
    target = GROUPS[group][1]
    line = mistake_told(tmp_path, *PLAIN, f"{group}._target_={target}")
    assert line.startswith(f"error: {group}._target_={target} lacks ")
    assert line.endswith(": name a class that has them")


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_without_a_class(tmp_path: Path, group: str) -> None:
    line = mistake_told(tmp_path, *PLAIN, f"~{group}._target_")
    assert line == f"error: {group} names no class: set {group}._target_=package.module.Class"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module `own_module`, whose classes are gone after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "own_module.py"
    sys.modules.pop("own_module", None)
    # Until then a base class would find them, and runs would read their settings.
    gc.collect()


@pytest.mark.parametrize("group", GROUPS)
def test_settings_of_another_kind(tmp_path: Path, module: Path, group: str) -> None:
    package, _, base = GROUPS[group][1].rpartition(".")
    module.write_text(
        f"from {package} import {base}\n\n\nclass Own({base}):\n    Settings = dict\n"
        "    sample_tasks = begin_episodes = advance = None\n"
        "    initial_state = step = unroll_trial = None\n"
        "    make_source = prepare = None\n"
    )
    line = mistake_told(tmp_path, *PLAIN, f"{group}._target_=own_module.Own")
    assert line.startswith(f"error: {group}._target_=own_module.Own has Settings that are not a ")
