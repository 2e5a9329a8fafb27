"""Trials through the bridge are those of the environment stepped by hand, in every backend."""

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from omegaconf import OmegaConf
from torch import Tensor
from torchrl.envs import check_env_specs

from rl2_lightning.families.execution import Execution
from rl2_lightning.families.gymnasium import GymnasiumTasks, processes
from rl2_lightning.families.trial_env import TrialEnv
from tests.builders import compose_config
from tests.families.draws import draw_actions
from tests.families.gymnasium import envs
from tests.families.gymnasium.played import (
    ENVS,
    HORIZON,
    NUM_EPISODES,
    NUM_TASKS,
    by_hand,
    compare,
    play,
    see_several,
    see_vector,
    tasks_of,
)


@pytest.mark.parametrize("ends", ["never", "terminated", "truncated", "mixed"])
def test_ends_of_episodes(backend: str, ends: str) -> None:
    settings = {"kwargs": {"ends": ends}, "tasks": [1.0, 6.0], "task_by": "method"}
    task_env = tasks_of("Counting", backend, **settings)
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    env.set_seed(1)
    actions = draw_actions(env, env.max_steps)
    found = play(env, actions)
    assert len({mask.sum().item() for mask in found["mask"]}) > (ends == "mixed")
    for row, task in enumerate(task_env.tasks["task"].flatten().tolist()):
        hand = envs.Counting(task, ends)
        expected = by_hand(hand, actions[:, row], HORIZON, lambda a: int(a) - 1)
        compare(found, row, expected, see_vector)
    # The end by the environment's own limit is no end of the task.
    assert (ends == "truncated") <= (not task_env._rows.results.terminated.any())
    env.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"tasks": [1.0, 3.0], "task_by": "options"},
        {"tasks": [1.0, 3.0], "task_by": "method", "task_name": "set_task"},
        {"sampler": f"{ENVS}:draw_array", "task_by": "method"},
        {"tasks": {"task": [1.0, 3.0]}, "task_by": "attributes"},
        {"sampler": f"{ENVS}:draw_dictionary", "task_by": "attributes"},
        {"tasks": {"task": [1.0, 3.0]}, "task_by": "constructor"},
        {"sampler": f"{ENVS}:draw", "task_by": "constructor"},
        {"tasks": 4, "task_by": "options"},
    ],
)
def test_a_task_changes_the_reward(backend: str, settings: dict[str, Any]) -> None:
    task_env = tasks_of("Counting", backend, **settings)
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    for seed in (1, 2):  # new tasks in the same environments
        env.set_seed(seed)
        actions = draw_actions(env, env.max_steps, seed)
        found = play(env, actions)
        for row, task in enumerate(task_env.tasks["task"].flatten().tolist()):
            expected = by_hand(envs.Counting(task), actions[:, row], HORIZON, lambda a: int(a) - 1)
            rewards = [float(np.float32(one)) for one in expected["reward"]]
            assert [reward[row].item() for reward in found["reward"]] == rewards
    env.close()


def test_a_wrapper_takes_the_task(backend: str) -> None:
    wrapper = f"{ENVS}:Doubling"
    task_env = tasks_of("Counting", backend, tasks=[1.0, 3.0], task_by="wrapper", wrapper=wrapper)
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    actions = draw_actions(env, env.max_steps)
    found = play(env, actions)
    for row, task in enumerate(task_env.tasks["task"].flatten().tolist()):
        hand = envs.Doubling(envs.Counting(), task)
        compare(
            found, row, by_hand(hand, actions[:, row], HORIZON, lambda a: int(a) - 1), see_vector
        )
    env.close()


def test_wrappers_are_applied_from_the_inside_out(backend: str) -> None:
    doubling, limit = f"{ENVS}:Doubling", "gymnasium.wrappers:TimeLimit"
    wrappers = [doubling, {"name": doubling, "kwargs": {"factor": 5.0}}]
    wrappers += [{"name": limit, "kwargs": {"max_episode_steps": 3}}]
    task_env = tasks_of(
        "Counting",
        backend,
        tasks=[1.0, 3.0],
        task_by="wrapper",
        wrapper=doubling,
        wrappers=wrappers,
    )
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    actions = draw_actions(env, env.max_steps)
    found = play(env, actions)
    for row, task in enumerate(task_env.tasks["task"].flatten().tolist()):
        inner = envs.Doubling(envs.Doubling(envs.Counting()), 5.0)
        hand = envs.Doubling(gymnasium.wrappers.TimeLimit(inner, 3), task)
        compare(
            found, row, by_hand(hand, actions[:, row], HORIZON, lambda a: int(a) - 1), see_vector
        )
    env.close()


def test_dictionaries_and_several_actions(backend: str) -> None:
    task_env = tasks_of("Several", backend, tasks={"task": [1.0, 3.0]}, task_by="attributes")
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    actions = draw_actions(env, env.max_steps)
    found = play(env, actions)
    for row, task in enumerate(task_env.tasks["task"].flatten().tolist()):
        hand = envs.Several(task=task)
        expected = by_hand(hand, actions[:, row], HORIZON, lambda a: a.numpy())
        compare(found, row, expected, see_several)
    env.close()


@pytest.mark.parametrize("bound", [2.0, np.inf])
def test_numbers_as_actions(backend: str, bound: float) -> None:
    settings = {"tasks": [1.0, 3.0], "task_by": "method", "kwargs": {"bound": bound}}
    task_env = tasks_of("Pushing", backend, action_bound=5.0, **settings)
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    assert env.action_spec.space.high.unique().item() == (2 if bound == 2 else 5)
    actions = draw_actions(env, env.max_steps)
    found = play(env, actions)

    def decode(action: Tensor) -> np.ndarray:
        return action.double().reshape(2, 1).numpy()

    for row, task in enumerate(task_env.tasks["task"].flatten().tolist()):
        hand = envs.Pushing(bound, task=task)
        compare(found, row, by_hand(hand, actions[:, row], HORIZON, decode), see_vector)
    env.close()


def test_seeds_are_tasks(backend: str) -> None:
    task_env = tasks_of("CartPole-v1", backend)
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    env.set_seed(1)
    actions = draw_actions(env, 200)
    found = play(env, actions)
    for row, seed in enumerate(task_env.tasks["task"].flatten().tolist()):
        again = gymnasium.make("CartPole-v1")
        shown = again.reset(seed=seed)[0]
        starts = [t for t, ended in enumerate(found["ended"]) if ended[row]]
        for t in [-1, *starts[:-1]]:
            see_vector(found["shown"][t + 1], row, shown)
        assert len(starts) == NUM_EPISODES
        expected = by_hand(again, actions[: starts[0] + 1, row], 500, int, seed=seed)
        assert expected["ended"] == [False] * starts[0] + [True]
    env.close()


def test_drawn_numbers_do_not_depend_on_the_backend(backend: str) -> None:
    def rewards(backend: str, num_workers: int, seed: int) -> Tensor:
        settings = {"kwargs": {"noise": 1.0}, "tasks": [1.0, 3.0], "task_by": "options"}
        env = TrialEnv(tasks_of("Counting", backend, num_workers, **settings), steps_per_trial=15)
        env.set_seed(seed)
        found = torch.stack(play(env, draw_actions(env, 15))["reward"])
        env.close()
        return found

    expected = rewards("batched", 1, 3)
    assert torch.equal(rewards(backend, 3, 3), expected)
    assert not torch.equal(rewards(backend, 3, 4), expected)
    assert len(expected[0].unique()) == NUM_TASKS


def test_finite_lists_of_tasks_are_drawn_equally_often() -> None:
    settings = {"training_tasks": [1, 2], "held_out_tasks": [3, 4, 5]}
    env = tasks_of("Counting", task_by="method", **settings)
    for sample, expected in (
        (env.sample_training_tasks, [1, 2]),
        (env.sample_tasks, [3, 4, 5]),
    ):
        drawn = sample(30)["task"]
        values, counts = drawn.unique(return_counts=True)
        assert values.tolist() == expected
        assert set(counts.tolist()) == {30 // len(expected)}
    named = tasks_of("Counting", task_by="method", **dict.fromkeys(settings, f"{ENVS}:FEW_TASKS"))
    assert named.sample_tasks(3)["task"].dtype == torch.int64


def test_what_follows_from_attributes() -> None:
    derived = {"total_mass": "masscart + masspole", "polemass_length": "masspole * length"}
    tasks = {"length": [0.3, 0.4], "masscart": [1.0, 2.0]}
    env = tasks_of("CartPole-v1", tasks=tasks, task_by="attributes", derived=derived)
    env.reset()
    for row, task in zip(env._rows._rows, env.tasks, strict=True):
        cart = row.env.unwrapped
        assert cart.length == task["length"].item()
        assert cart.total_mass == task["masscart"].item() + 0.1
        assert cart.polemass_length == 0.1 * task["length"].item()


@pytest.mark.parametrize("name", ["Counting", "Several", "Pushing"])
def test_specs(backend: str, name: str) -> None:
    env = tasks_of(name, backend, tasks=[1.0, 2.0], task_by="options")
    check_env_specs(env, seed=0)
    check_env_specs(TrialEnv(env, episodes_per_trial=2), seed=0)
    env.close()
    assert env.is_closed
    check_env(vars(envs)[name](), skip_render_check=True)


@pytest.mark.parametrize("experiment", ["gymnasium_cart_pole", "gymnasium_mountain_car"])
def test_experiments_draw_their_tasks(tmp_path: Path, experiment: str) -> None:
    settings = OmegaConf.to_container(compose_config(tmp_path, f"experiment={experiment}").env)
    settings.pop("_target_")
    env = GymnasiumTasks(NUM_TASKS, **settings)
    check_env_specs(TrialEnv(env, episodes_per_trial=2), seed=0)
    assert all(len(drawn.unique()) == NUM_TASKS for drawn in env.tasks.values())
    for row, task in zip(env._rows._rows, env.tasks, strict=True):
        for name, drawn in task.items():
            assert getattr(row.env.unwrapped, name) == drawn.item()
    check_env(env.settings.maker.make().unwrapped, skip_render_check=True)
    env.close()


def test_idle_rows_are_not_stepped(backend: str) -> None:
    env = tasks_of("Counting", backend, tasks=[1.0, 2.0], task_by="options")
    env.reset()
    playing = torch.tensor([[True], [False], [True], [False], [False]])
    for _ in range(3):
        env.play(torch.zeros(NUM_TASKS, dtype=torch.int64), playing)
    nowhere = torch.zeros_like(playing)
    assert env.begin_episodes(nowhere)[:, 0].tolist() == [3, 0, 3, 0, 0]
    env.play(torch.zeros(NUM_TASKS, dtype=torch.int64), nowhere)
    assert env.begin_episodes(~playing).tolist() == [[3, 1], [0, 2], [3, 1], [0, 2], [0, 2]]
    assert env.episode_steps.flatten().tolist() == [3, 0, 3, 0, 0]
    env.close()


def test_environments_are_closed(backend: str, tmp_path: Path) -> None:
    kwargs = {"folder": str(tmp_path)}
    env = tasks_of("Closing", backend, tasks=[1.0, 2.0], task_by="options", kwargs=kwargs)
    looked_at = len(list(tmp_path.iterdir()))
    assert looked_at == 1
    env.reset()
    env.close()
    assert len(list(tmp_path.iterdir())) == looked_at + NUM_TASKS


@pytest.mark.parametrize(
    ("given", "num_ranks", "expected"), [(None, 1, 4), (None, 2, 2), ("7", 1, 7)]
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, given: str | None, num_ranks: int, expected: int
) -> None:
    monkeypatch.setattr(processes, "num_cores", lambda: 8)
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    env = GymnasiumTasks(
        NUM_TASKS,
        execution=Execution("process", 2, num_ranks=num_ranks),
        id=f"{ENVS}:Threads",
        horizon=HORIZON,
    )
    assert env.reset()["observation"].tolist() == [[expected, 0]] * NUM_TASKS
    assert os.environ.get("OMP_NUM_THREADS") == given
    env.close()
