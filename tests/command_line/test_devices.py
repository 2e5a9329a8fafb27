"""The program end to end: several processes, several runs, and the test of a checkpoint."""

import json
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from rl2_lightning.config_checks import check
from rl2_lightning.errors import UserError
from rl2_lightning.learners.ppo import PPO
from rl2_lightning.parts import read_settings
from tests.builders import ROOT, compose_config, run_shape
from tests.command_line.program import SMALL, call_program, mistake_told, run_program


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_two_processes_train_together(tmp_path: Path) -> None:
    done = run_program(
        tmp_path,
        "debug=fast",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.strategy=ddp",
        "hydra.run.dir=run",
    )
    assert done.returncode == 0, done.stderr
    assert [path.parent.name for path in tmp_path.rglob("summary.json")] == ["run"]
    summary = summary_of(tmp_path / "run")
    assert summary["num_tasks"] == 16
    assert summary["env_steps"] == 32 * 2
    for curve in (*summary["agent"].values(), *summary["references"].values()):
        assert curve["num_trials"] == 16, "each task is played once, by one of the two"
    rows = (tmp_path / "run" / "adaptation_curve.csv").read_text().splitlines()
    assert len(rows) == len(set(rows))
    assert done.stdout.count("mean return of a trial") == 1, "one of the two prints the table"
    assert not done.stderr


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_a_fast_run_divides_among_devices(tmp_path: Path, devices: int) -> None:
    cfg = compose_config(tmp_path, "debug=fast", f"trainer.devices={devices}")
    check(cfg, num_cores=8, multirun=False)
    settings = read_settings(cfg, "learner", PPO.Settings)
    shape = run_shape(cfg.collection.num_trials, devices)
    settings.check_run(shape)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_strategies_that_keep_the_agent_to_themselves(tmp_path: Path, strategy: str) -> None:
    cfg = compose_config(tmp_path, f"trainer.strategy={strategy}")
    with pytest.raises(UserError, match=f"^trainer.strategy={strategy} leaves .*: set trainer"):
        check(cfg, num_cores=8, multirun=False)


@pytest.mark.parametrize("nodes", ["trainer.devices=2", "trainer.num_nodes=2"])
def test_a_sweep_over_several_processes_is_refused(tmp_path: Path, nodes: str) -> None:
    cfg = compose_config(tmp_path, nodes, "collection.num_trials=64")
    check(cfg, num_cores=8, multirun=False)
    with pytest.raises(UserError, match=r"^--multirun with trainer\.devices="):
        check(cfg, num_cores=8, multirun=True)


def test_a_sweep_writes_each_run(tmp_path: Path) -> None:
    call_program(tmp_path, "-m", "seed=1,2", *SMALL, f"hydra.sweep.dir={tmp_path}")
    runs = [path.parent for path in tmp_path.rglob("summary.json")]
    assert sorted(summary_of(run)["seed"] for run in runs) == [1, 2]
    assert all((run / "last.ckpt").exists() for run in runs)
    one, two = (torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in runs)
    assert not torch.equal(one["agent.policy.layers.0.weight"], two["agent.policy.layers.0.weight"])


def test_a_sweep_chooses_folders_that_can_be_typed(tmp_path: Path) -> None:
    call_program(tmp_path, "-m", "seed=1,2", *SMALL)
    runs = [path.parent for path in (tmp_path / "outputs").rglob("summary.json")]
    assert sorted(summary_of(run)["seed"] for run in runs) == [1, 2]
    parser = OverridesParser.create()
    for run in runs:
        checkpoint = str(run / "last.ckpt")
        assert parser.parse_override(f"ckpt_path={checkpoint}").value() == checkpoint


def test_the_test_of_a_checkpoint_gives_the_figures_of_its_run(
    tmp_path: Path, finished_run: Path
) -> None:
    checkpoint = finished_run / "last.ckpt"
    before = checkpoint.read_bytes()
    folder = f"hydra.run.dir={tmp_path}"
    call_program(tmp_path, *SMALL, "mode=test", f"ckpt_path={checkpoint}", folder)
    assert summary_of(tmp_path) == summary_of(finished_run)
    assert checkpoint.read_bytes() == before
    assert not (tmp_path / "last.ckpt").exists(), "nothing was trained"


def test_another_seed_tests_on_the_same_tasks(tmp_path: Path, finished_run: Path) -> None:
    checkpoint = f"ckpt_path={finished_run / 'last.ckpt'}"
    call_program(tmp_path, *SMALL, "mode=test", checkpoint, "seed=9", f"hydra.run.dir={tmp_path}")
    assert summary_of(tmp_path)["agent"] == summary_of(finished_run)["agent"]


def test_training_without_checkpoints_tests_the_agent_that_was_trained(tmp_path: Path) -> None:
    callbacks = ("callbacks.preemption=null", "callbacks.checkpoint=null")
    call_program(tmp_path, *SMALL, *callbacks, f"hydra.run.dir={tmp_path}")
    assert summary_of(tmp_path)["env_steps"] == 16
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_finished_run_is_not_trained_further(tmp_path: Path, finished_run: Path) -> None:
    checkpoint = f"ckpt_path={finished_run / 'last.ckpt'}"
    line = mistake_told(tmp_path, *SMALL, checkpoint)
    assert "has been trained for 1 iteration, and trainer.max_epochs=1 allows no more" in line
    # A checkpoint at the end of its budget is only tested again.
    whole = (
        "collection.total_env_steps=16",
        "trainer.max_epochs=null",
        f"hydra.run.dir={tmp_path}",
    )
    call_program(tmp_path, *SMALL, checkpoint, *whole)
    assert summary_of(tmp_path)["env_steps"] == summary_of(finished_run)["env_steps"]


@pytest.mark.parametrize("group", ["env", "experiment"])
def test_the_trials_divide_over_four_devices(tmp_path: Path, group: str) -> None:
    for file in sorted((ROOT / "configs" / group).glob("*.yaml")):
        cfg = compose_config(tmp_path, f"{group}={file.stem}")
        stages = (cfg.collection.curriculum or {}).values()
        numbers = [cfg.collection.num_trials, *(stage.num_trials for stage in stages)]
        if cfg.collection.num_trials == cfg.learner.get("num_minibatches"):
            continue  # an update for each trial cannot be shared
        share = 4 * cfg.learner.get("num_minibatches", 1)
        assert all(number % share == 0 for number in numbers), (file.stem, numbers, share)


def test_automatic_devices_are_those_that_are_there(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path, "trainer.devices=auto", "trainer.accelerator=cpu")
    check(cfg, num_cores=2, multirun=False)
    assert cfg.trainer.devices == 1
    with pytest.raises(UserError, match=r"trainer\.devices=many: give a number"):
        check(compose_config(tmp_path, "trainer.devices=many"), num_cores=2, multirun=False)
