"""Tasks, rewards and the score are those of Meta-World's benchmarks."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from tensordict import TensorDict
from torchrl.envs import check_env_specs

from rl2_lightning import keys
from rl2_lightning.families.metaworld.score import BenchmarkScore
from rl2_lightning.families.trial_env import TrialEnv
from tests.extras.by_hand import require_same
from tests.extras.packages import needs
from tests.families.gymnasium.played import tasks_of

ROOM = "rl2_lightning.families.metaworld"
ML1 = {
    "task_by": "method",
    "training_tasks": f"{ROOM}.benchmarks:ML1.reach-v3.training",
    "held_out_tasks": f"{ROOM}.benchmarks:ML1.reach-v3.held_out",
    "recorded": ["success", "kind"],
    "horizon": 12,
}


def with_package(test: Any) -> Any:
    for mark in needs("metaworld"):
        test = mark(test)
    return test


def arm(task: Any) -> Any:
    from rl2_lightning.families.metaworld.arm import Arm

    env = Arm()
    env.set_task(task)
    return env


@with_package
def test_tasks_are_those_of_the_benchmark_and_are_drawn_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import metaworld

    from rl2_lightning.families.metaworld.benchmarks import ML1, SEED, Split

    drawn = metaworld.ML1("push-v3", seed=SEED)
    split = getattr(ML1, "push-v3")
    monkeypatch.setattr(metaworld, "ML1", lambda *given, seed: drawn)
    training, held_out = split.training, split.held_out
    monkeypatch.setattr(Split, "_draw", None)
    assert split.training == training
    goals = {tuple(task["goal"]) for task in (*training, *held_out)}
    assert len(goals) == 100
    raw = drawn.train_classes["push-v3"]()
    for task, own in ((training[3], drawn.train_tasks[3]), (held_out[4], drawn.test_tasks[4])):
        raw.set_task(own)
        env = arm(task)
        assert env.reset()[0] == pytest.approx(raw.reset()[0], abs=1e-9)
        env.action_space.seed(0)
        for _ in range(20):
            action = env.action_space.sample()
            seen, reward, *ended, info = env.step(action)
            expected = raw.step(action)
            assert seen == pytest.approx(expected[0], abs=1e-6)
            assert (reward, *ended) == pytest.approx(expected[1:4], abs=1e-6)
            assert info["success"] == expected[4]["success"]
    assert not np.any(seen[-3:]), "the goal is hidden"


@with_package
def test_a_benchmark_tests_with_other_kinds() -> None:
    from rl2_lightning.families.metaworld.benchmarks import ML10

    training, held_out = ML10.training, ML10.held_out
    kinds = [{task["kind"] for task in tasks} for tasks in (training, held_out)]
    assert (len(training), len(held_out)) == (500, 250)
    assert [len(one) for one in kinds] == [10, 5]
    assert not kinds[0] & kinds[1]
    # The arm changes between kinds and back, and plays what a new one plays.
    action = np.array([1, -1, 1, 0], np.float32)
    env = arm(training[0])
    for task in (training[60], held_out[10], training[0]):
        env.set_task(task)
        new = arm(task)
        assert env.reset()[0] == pytest.approx(new.reset()[0])
        assert env.step(action)[1] == pytest.approx(new.step(action)[1])
        assert env.step(action)[4]["kind"] == task["kind"]


@with_package
def test_ml1_has_the_kinds_of_meta_world() -> None:
    from rl2_lightning.families.metaworld import benchmarks

    with pytest.raises(AttributeError, match="fly"):
        _ = benchmarks.ML1.fly


@with_package
@pytest.mark.parametrize("backend", ["batched", "vector", "process"])
def test_trials_are_those_of_the_arm_by_itself(backend: str) -> None:
    tasks = tasks_of(f"{ROOM}.arm:Arm", backend, **ML1)
    require_same(tasks, arm, num_steps=30)


@with_package
def test_an_episode_ends_after_500_steps() -> None:
    from rl2_lightning.families.metaworld.benchmarks import ML1

    env = arm(getattr(ML1, "reach-v3").training[0])
    env.reset()
    ends = [env.step(np.zeros(4, np.float32))[2:4] for _ in range(500)]
    assert ends == [(False, False)] * 499 + [(False, True)]


@with_package
def test_specs() -> None:
    tasks = tasks_of(f"{ROOM}.arm:Arm", **ML1)
    check_env_specs(TrialEnv(tasks, episodes_per_trial=2), seed=0)
    task = tasks.settings.sources()[0].tasks[0]
    check_env(arm(task), skip_render_check=True)
    tasks.close()


def test_the_score_is_success_at_any_step_of_the_last_three_episodes() -> None:
    # Three trials of 13 episodes of 2 steps; the first and the second are of one kind.
    successful = {0: {(0, 0), (11, 0), (12, 1)}, 1: {(10, 0), (10, 1)}, 2: {(9, 1)}}
    success = torch.zeros(3, 26, 1)
    for trial, steps in successful.items():
        for episode, step in steps:
            success[trial, 2 * episode + step] = 1
    trials = TensorDict(
        {
            keys.of_info("success"): success,
            keys.of_info("kind"): torch.tensor([1.0, 1.0, 0.0])[:, None, None].expand(3, 26, 1),
            keys.EPISODE: torch.arange(26)[None, :, None].expand(3, 26, 1) // 2,
            keys.MASK: torch.ones(3, 26, 1, dtype=torch.bool),
        },
        batch_size=[3, 26],
    )
    analysis = BenchmarkScore(["push", "reach", "fly"], 13)
    metric = analysis.make_metric()
    for some in (trials[:2], trials[2:]):
        analysis.add(metric, some)
    found = {name: one.value for name, one in metric.compute().estimates().items()}
    assert found["success"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert found["success_reach"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert found["success_push"] == pytest.approx(0)
    assert "success_fly" not in found
    by_episode = [found[f"success_episode_{episode}"] for episode in range(1, 14)]
    expected = [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert by_episode == pytest.approx([one / 3 for one in expected])
