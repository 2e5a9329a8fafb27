"""A run that is resumed equals one that was never stopped, bit for bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders import LEARNERS, MEMORIES, ROOT, compose_config
from tests.command_line.program import UNSEEN, run_program
from tests.forked import forked
from tests.invariants.test_replay import REPLAYING, TWO_RANKS
from tests.invariants.test_runs import (
    PPO,
    TINY,
    assert_same_run,
    contents,
    of_learner,
    train,
    validations,
)

# Continuous actions, in trials of ten steps.
POINTS = (
    "env.horizon=5",
    "trial.episodes_per_trial=2",
    "collection.num_trials=32",
    "collection.total_env_steps=1920",
)
# The first three of six iterations play shorter trials, so that resuming falls between stages.
CURRICULUM = "+collection.curriculum={short:{env_steps:960,num_trials:64,trial_length:5}}"


RESUMED = {
    **{learner: of_learner(learner) for learner in LEARNERS},
    **{memory: (*PPO, f"memory={memory}", "env=point_robot", *POINTS) for memory in MEMORIES},
    "curriculum": (*PPO, CURRICULUM),
    "action queries": (*PPO, "agent.policy_head=action_queries", "agent.policy_hidden_sizes=[8]"),
    "reads of pairs": (
        *PPO,
        "env=tabular_mdp",
        "env.horizon=5",
        "trial.episodes_per_trial=2",
        "agent.policy_head=action_queries",
        "agent.policy_hidden_sizes=[8]",
        "agent.action_queries.of_observation=true",
        "agent.action_queries.key_size=5",
    ),
    "hypernetwork": (*PPO, "agent.policy_head=hypernetwork", "agent.policy_hidden_sizes=[8]"),
    "plain critic": (*PPO, "learner.critic={separate:false,sees_task:false,hidden_sizes:[]}"),
    "windows": (
        *PPO,
        "collection.window=4",
        "collection.burn_in=2",
    ),
    "process backend": (
        *PPO,
        "experiment=gymnasium_cart_pole",
        "env.horizon=5",
        "collection.backend=process",
        "collection.num_workers=2",
    ),
}


@pytest.mark.parametrize("overrides", RESUMED.values(), ids=RESUMED.keys())
def test_resume_is_bitwise(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    settings = (*TINY, *overrides)
    whole = train(compose_config(tmp_path / "whole", *settings))
    half = train(compose_config(tmp_path / "half", *settings, "trainer.max_epochs=3"))
    # Another process, so that only the checkpoint is shared.
    resumed = tmp_path / "resumed"
    more = (*overrides, f"ckpt_path={half}", "trainer.max_epochs=null")
    done = run_program(tmp_path, *TINY, *more, f"hydra.run.dir={resumed}")
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, resumed / "last.ckpt")
    measured = validations(resumed)
    assert {row[1] for row in measured} == {"6"}
    assert measured == [row for row in validations(tmp_path / "whole") if row[1] != "3"]


def test_a_killed_run_resumes_bitwise(tmp_path: Path) -> None:
    # 40 iterations, and a validation only at the end.
    long = ("collection.total_env_steps=12800", "trainer.check_val_every_n_epoch=40")
    settings = (*TINY, *PPO, *long)
    whole = train(compose_config(tmp_path / "whole", *settings))
    killed = tmp_path / "killed"
    program = [sys.executable, str(ROOT / "train.py"), *settings, f"hydra.run.dir={killed}"]
    with subprocess.Popen(program, cwd=tmp_path) as process:
        last = killed / "last.ckpt"
        while not last.exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(random.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
    reached = contents(last)["epoch"]
    resumed = tmp_path / "resumed"
    more = (f"ckpt_path={last}", f"hydra.run.dir={resumed}")
    done = run_program(tmp_path, *settings, *more)
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, resumed / "last.ckpt")
    assert reached < 40


def test_nothing_is_lost_before_the_last_checkpoint_is_written(tmp_path: Path) -> None:
    settings = (*TINY, *PPO)
    whole = train(compose_config(tmp_path / "whole", *settings))
    # As if it was killed there: it has the checkpoint of its last iteration.
    killed = train(compose_config(tmp_path / "killed", *settings, "callbacks.preemption=null"))
    assert_same_run(whole, killed)
    longer = (*settings, "collection.total_env_steps=2560")
    one, two = (
        train(compose_config(tmp_path / f"on_{path.parent.name}", *longer, f"ckpt_path={path}"))
        for path in (whole, killed)
    )
    assert contents(one)["epoch"] == 8
    assert_same_run(one, two)


def test_a_run_stopped_by_sigterm_resumes_bitwise(tmp_path: Path) -> None:
    long = ("collection.total_env_steps=3200000", "callbacks.checkpoint.every_n_epochs=100000")
    settings = (*TINY, *PPO, *long)
    run = tmp_path / "run"
    arguments = (str(ROOT / "train.py"), f"hydra.run.dir={run}", *settings)
    with forked(arguments, tmp_path) as program:
        # The first validation shows that iterations run.
        while not (run / "adaptation_curve.png").exists():
            assert program.poll() is None
            time.sleep(0.02)
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 1
        _, errors = program.read()
    assert f"resume with ckpt_path={run / 'last.ckpt'}" in errors
    stopped = contents(run / "last.ckpt")["epoch"]
    assert f"stopped after iteration {stopped};" in errors
    end = f"trainer.max_epochs={stopped + 2}"
    done = run_program(tmp_path, f"ckpt_path={run}", end, f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    whole = train(compose_config(tmp_path / "whole", *settings, end))
    assert_same_run(whole, run / "last.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("learner", sorted({*LEARNERS} - {*REPLAYING}))  # see test_replay.py
def test_two_ranks_resume_bitwise(tmp_path: Path, learner: str) -> None:
    given = (*TINY, *UNSEEN, *of_learner(learner), *TWO_RANKS)

    def run(name: str, *overrides: str) -> Path:
        done = run_program(tmp_path, *overrides, f"hydra.run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        return tmp_path / name / "last.ckpt"

    whole = run("whole", *given, "trainer.max_epochs=4")
    half = run("half", *given, "trainer.max_epochs=2")
    resumed = run("resumed", f"ckpt_path={half}", "trainer.max_epochs=4")
    assert_same_run(whole, resumed)
