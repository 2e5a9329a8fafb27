"""The robots earn what their formulas say, by themselves and through the bridge."""

import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torchrl.envs import check_env_specs

from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv
from tests.extras.by_hand import require_same
from tests.extras.packages import needs
from tests.families.gymnasium.played import tasks_of

pytestmark = needs("mujoco")

ROOM = "rl2_lightning.families.mujoco"
DRAWN = {
    "WalkerPhysics": {"sampler": f"{ROOM}.physics:draw_walker"},
    "HopperPhysics": {"sampler": f"{ROOM}.physics:draw_hopper"},
    "AntGoal": {"sampler": f"{ROOM}.ant:draw_place"},
    "AntDir": {"tasks": [-3.0, 3.0]},
    "HumanoidDir": {"tasks": [-3.0, 3.0]},
    "HalfCheetahVel": {"tasks": [0.0, 3.0]},
    "HalfCheetahDir": {"training_tasks": [-1.0, 1.0], "held_out_tasks": [-1.0, 1.0]},
}
MODULES = {"Half": "half_cheetah", "AntD": "ant", "AntG": "ant", "Huma": "humanoid"}


def place_of(name: str) -> str:
    return f"{ROOM}.{MODULES.get(name[:4], 'physics')}"


def kind_of(name: str) -> Any:
    return getattr(import_module(place_of(name)), name)


def task_of(name: str, seed: int = 0) -> Any:
    drawn, generator = DRAWN[name], np.random.default_rng(seed)
    if "sampler" in drawn:
        module, _, sampler = drawn["sampler"].partition(":")
        return getattr(import_module(module), sampler)(generator)
    return -1.0 if name == "HalfCheetahDir" else generator.uniform(*drawn["tasks"])


def robot(name: str, task: Any, **settings: Any) -> Any:
    env = kind_of(name)(**settings)
    env.set_task(task)
    return env


class ByHand:
    """MuJoCo itself, from the state in which an environment begins."""

    def __init__(self, env: Any) -> None:
        import mujoco

        self.mujoco, self.skip = mujoco, env.frame_skip
        self.model = mujoco.MjModel.from_xml_path(str(Path(env.fullpath)))
        self.data = mujoco.MjData(self.model)
        self.dt = self.model.opt.timestep * env.frame_skip

    def begin(self, env: Any) -> None:
        self.mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = env.data.qpos, env.data.qvel
        self.mujoco.mj_forward(self.model, self.data)

    def step(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = action
        self.mujoco.mj_step(self.model, self.data, self.skip)
        self.mujoco.mj_rnePostConstraint(self.model, self.data)

    def torso(self) -> np.ndarray:
        return self.data.body("torso").xpos[:2].copy()

    def centre(self) -> np.ndarray:
        mass = self.model.body_mass[:, None]
        return ((mass * self.data.xipos).sum(0) / mass.sum())[:2]


def earned(name: str, hand: ByHand, task: Any, action: np.ndarray) -> float:
    """The published formula of a step, which it plays."""
    x, torso, centre = hand.data.qpos[0], hand.torso(), hand.centre()
    hand.step(action)
    velocity = (hand.data.qpos[0] - x) / hand.dt
    squares = (action.astype(np.float64) ** 2).sum()
    contacts = 0.5e-3 * (np.clip(hand.data.cfrc_ext, -1, 1) ** 2).sum()
    if name == "HalfCheetahDir":
        return task * velocity - 0.5 * 1e-1 * squares
    if name == "HalfCheetahVel":
        return -abs(velocity - task) - 0.5 * 1e-1 * squares
    if name == "AntGoal":
        return -np.abs(hand.torso() - task).sum() - 0.1 * squares - contacts
    if name.endswith("Physics"):
        return velocity + 1.0 - 1e-3 * squares
    direction = np.array([np.cos(task), np.sin(task)])
    if name == "AntDir":
        return (hand.torso() - torso) / hand.dt @ direction - 0.5 * squares - contacts + 1.0
    progress = 0.25 * (direction * (hand.centre() - centre)).sum() / hand.model.opt.timestep
    impact = min(0.5e-6 * (hand.data.cfrc_ext**2).sum(), 10)
    return progress - 0.1 * (hand.data.ctrl**2).sum() - impact + 5.0


def has_fallen(name: str, state: Any) -> bool:
    height = state.qpos[1] if name.endswith("Physics") else state.qpos[2]
    if name == "AntDir":
        return not 0.2 <= height <= 1.0
    if name == "HumanoidDir":
        return not 1.0 < height < 2.0
    if name == "WalkerPhysics":
        return not (0.8 < height < 2.0 and -1 < state.qpos[2] < 1)
    if name == "HopperPhysics":
        return not (height > 0.7 and abs(state.qpos[2]) < 0.2 and (abs(state.qpos[3:]) < 100).all())
    return False


@pytest.mark.parametrize("name", DRAWN)
def test_rewards_are_the_published_formulas(name: str) -> None:
    task = task_of(name)
    env = robot(name, task)
    hand = ByHand(env)
    for array in task if isinstance(task, dict) else ():
        getattr(hand.model, array)[:] = getattr(env.model, array)
    env.action_space.seed(0)
    ends = 0
    for episode in range(4):
        env.reset(seed=episode)
        hand.begin(env)
        for _ in range(60):
            action = env.action_space.sample()
            expected = earned(name, hand, task, action)
            _, reward, terminated, truncated, _ = env.step(action)
            assert reward == pytest.approx(expected, abs=1e-6)
            assert terminated == has_fallen(name, env.data)
            assert not truncated
            ends += terminated
            if terminated:
                break
    assert (ends > 0) == (name not in ("AntGoal", "HalfCheetahVel", "HalfCheetahDir"))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("HalfCheetahDir", 20),
        ("HalfCheetahVel", 20),
        ("AntDir", 27),
        ("AntGoal", 107),
        ("HumanoidDir", 348),
        ("WalkerPhysics", 17),
        ("HopperPhysics", 11),
    ],
)
def test_only_who_is_told_the_task_sees_it(name: str, size: int) -> None:
    shown = []
    for seed in (0, 1):
        task = 1.0 if name == "HalfCheetahDir" and seed else task_of(name, seed)
        hidden, told = robot(name, task), robot(name, task, told=True)
        seen, with_task = (env.reset(seed=3)[0] for env in (hidden, told))
        assert seen.shape == (size,)
        assert with_task[:size] == pytest.approx(seen)
        assert with_task[size:] == pytest.approx(told.task_as_seen())
        shown.append((seen, with_task[size:]))
    assert shown[0][0] == pytest.approx(shown[1][0]), "the task is in the first observation"
    assert not np.allclose(shown[0][1], shown[1][1])


@pytest.mark.parametrize("backend", ["batched", "vector", "process"])
@pytest.mark.parametrize("name", DRAWN)
def test_trials_are_those_of_the_robot_by_itself(name: str, backend: str) -> None:
    settings = {"task_by": "method", "horizon": 12, **DRAWN[name]}
    tasks = tasks_of(f"{place_of(name)}:{name}", backend, **settings)
    rewards = require_same(tasks, lambda task: robot(name, task))
    assert len(np.unique(rewards)) > len(rewards)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("name", DRAWN)
def test_specs(name: str, told: bool) -> None:
    check_env(robot(name, task_of(name), told=told), skip_render_check=True)
    settings = {"task_by": "method", "horizon": 200, "kwargs": {"told": told}, **DRAWN[name]}
    tasks = tasks_of(f"{place_of(name)}:{name}", **settings)
    check_env_specs(TrialEnv(tasks, episodes_per_trial=2), seed=0)
    tasks.close()


def test_a_robot_is_copied_with_what_it_is_told() -> None:
    for name in DRAWN:
        for told in (False, True):
            again = pickle.loads(pickle.dumps(kind_of(name)(told=told)))
            assert again.told == told
            assert again.observation_space == kind_of(name)(told=told).observation_space


@pytest.mark.parametrize("name", ["WalkerPhysics", "HopperPhysics"])
def test_physics_are_factors_of_the_robots_own(name: str) -> None:
    own, task = kind_of(name)(), task_of(name)
    env = robot(name, task_of(name, seed=1))
    env.set_task(task)  # which replaces the first one
    for array, exponents in task.items():
        assert np.abs(exponents).max() <= 3.0
        base = 1.3 if array == "dof_damping" else 1.5
        expected = getattr(own.model, array) * base**exponents
        assert getattr(env.model, array) == pytest.approx(expected)
    assert env.task_as_seen().size == sum(one.size for one in task.values())
    with pytest.raises(ValueError, match="body_mass is of shape"):
        env.set_task({**task, "body_mass": np.zeros(2)})


def test_places_are_drawn_uniformly_from_a_disc() -> None:
    from rl2_lightning.families.mujoco.ant import draw_place

    generator = np.random.default_rng(0)
    places = np.stack([draw_place(generator) for _ in range(4000)])
    squares = (places**2).sum(-1)
    assert squares.max() <= 9.0
    # Uniform from 0 to 9, in each quadrant as often.
    assert squares.mean() == pytest.approx(4.5, abs=5 * 9 / np.sqrt(12 * 4000))
    quadrants = np.unique(places > 0, axis=0, return_counts=True)[1]
    assert quadrants == pytest.approx(np.full(4, 1000), abs=5 * np.sqrt(750))


def test_both_directions_are_held_out() -> None:
    settings = {"task_by": "method", "horizon": 200, **DRAWN["HalfCheetahDir"]}
    tasks = GymnasiumTasks(4, id=f"{ROOM}.half_cheetah:HalfCheetahDir", **settings)
    for sample in (tasks.sample_tasks, tasks.sample_training_tasks):
        values, counts = torch.unique(sample(10)["task"], return_counts=True)
        assert values.tolist() == [-1.0, 1.0]
        assert counts.tolist() == [5, 5]
