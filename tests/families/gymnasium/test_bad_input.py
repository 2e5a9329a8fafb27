"""What a user can get wrong is told in one line that names the environment."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from rl2_lightning.errors import FailedEnvironmentError, UserError
from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.gymnasium.backends import BACKENDS
from rl2_lightning.families.gymnasium.formulas import evaluate
from tests.families.gymnasium.played import ENVS, play_fault, tasks_of

COUNTING = f"{ENVS}:Counting"
RANGE = {"tasks": [1.0, 3.0], "task_by": "method"}


def play_steps(env: GymnasiumTasks, num_steps: int) -> Any:
    """The observation after some steps of all rows."""
    env.reset()
    everywhere = torch.ones(env.num_tasks, 1, dtype=torch.bool)
    for _ in range(num_steps):
        shown = env.play(env.action_spec.zero(), everywhere).observation
    return shown


def needs_mujoco() -> None:
    raise gymnasium.error.DependencyNotInstalled('MuJoCo is missing, run `pip install "x[mujoco]"`')


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"id": "Nowhere-v0"},
            r"^env\.id=Nowhere-v0 is not registered with Gymnasium: .*check the",
        ),
        ({"id": "CartPole-v99"}, r"^env\.id=CartPole-v99 is not registered"),
        (
            {"id": "no_such_module:Env"},
            r"^env\.id=no_such_module:Env cannot be imported: ModuleNot",
        ),
        ({"id": f"{ENVS}:Nothing"}, r"^env\.id=.*envs:Nothing is not registered"),
        ({"id": f"{ENVS}:draw"}, r"^.*:draw cannot be made with no arguments: TypeError"),
        ({"id": f"{__name__}:needs_mujoco"}, r"not installed: .*run `pip install .x.mujoco..`"),
        (
            {"kwargs": {"colour": 1}},
            r":Counting cannot be made with colour: TypeError.*; fix env\.k",
        ),
        ({"wrapper": f"{ENVS}:draw"}, r"^env\.wrapper=.* cannot wrap .*: AttributeError"),
        ({"wrappers": f"{ENVS}:Doubling"}, r"^env\.wrappers=.*:Doubling is not a list: give \["),
        ({"wrappers": [{"kwargs": {}}]}, r"^env\.wrappers has {'kwargs': {}}: give module:name"),
        ({"wrappers": [f"{ENVS}:Nothing"]}, r"^env\.wrappers=.*:Nothing names nothing"),
        (
            {"wrappers": [{"name": f"{ENVS}:Doubling", "kwargs": {"colour": 1}}]},
            r"^env\.wrappers=.*:Doubling cannot wrap .*:Counting: TypeError",
        ),
        ({"horizon": None}, r":Counting has no time limit: set env\.horizon"),
        ({"task_name": "teach"}, r":Counting has no method teach: name the method"),
        ({"tasks": None}, r"^env\.task_by=method without tasks for .*:Counting: set env\.tasks"),
        ({"tasks": [3, 1]}, r"^env\.tasks=\[3, 1\] is not a range"),
        ({"tasks": {"goal": [[1, 2], 3]}}, r"^env\.tasks\.goal=\[\[1, 2\], 3\] is not a range"),
        ({"tasks": {}}, r"^env\.tasks={} has no task for .*:Counting"),
        ({"sampler": f"{ENVS}:draw"}, r"^env\.tasks=.* and env\.sampler=.*: give one"),
        ({"tasks": None, "sampler": f"{ENVS}:FEW_TASKS"}, r"is a list: name a function that takes"),
        ({"tasks": None, "sampler": f"{ENVS}:draw_nothing"}, r"returns None for .*:Counting: ret"),
        (
            {"tasks": None, "sampler": f"{ENVS}:draw_any_shape"},
            r"gives .*:Counting a task of \[\d\]",
        ),
        ({"tasks": None, "sampler": f"{ENVS}:fail"}, r"failed: LookupError: no more tasks; fix it"),
        ({"training_tasks": []}, r"^env\.training_tasks=\[\] has no tasks: give a list"),
        ({"training_tasks": f"{ENVS}:NO_TASKS"}, r"^env\.training_tasks=.*:NO_TASKS has no tasks"),
        (
            {"held_out_tasks": [{"x": 1}]},
            r"gives .*:Counting a task of x: whole number, and others",
        ),
        ({"held_out_tasks": ["x"]}, r"gives .*:Counting the task 'x': give numbers"),
        ({"task_by": "wrapper"}, r"^env\.task_by=wrapper without a wrapper"),
        ({"task_by": "seed"}, r"^env\.task_by=seed with tasks of .*:Counting that are not whole"),
        ({"task_by": "attributes"}, r"^env\.task_by=attributes with tasks of .* without names"),
        ({"derived": {"x": "1"}}, r"^env\.derived with env\.task_by=method"),
        ({"id": f"{ENVS}:Pushing", "kwargs": {"bound": float("inf")}}, r"set env\.action_bound"),
    ],
)
def test_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        GymnasiumTasks(2, **{"id": COUNTING, "horizon": 6, **RANGE, **settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nonsense", "set_task", "_np_random", "__class__"])
def test_attributes_that_hold_no_number(name: str) -> None:
    with pytest.raises(UserError, match=rf":Counting has no attribute {name} that holds"):
        GymnasiumTasks(2, id=COUNTING, horizon=6, tasks={name: [1.0, 2.0]}, task_by="attributes")


@pytest.mark.parametrize("formula", ["f(1)", "a.b", "a ** 9", "[a]", "'a'", "a if a else a", "a +"])
def test_a_formula_is_not_code(formula: str) -> None:
    with pytest.raises(UserError, match="is not one of numbers, names"):
        evaluate(formula, lambda name: 1.0)
    assert evaluate("-(a + 2) * 3 / b - 1", {"a": 1.0, "b": 4.0}.__getitem__) == -3.25


LOCAL = [one for one in BACKENDS if one != "ray"]


@pytest.mark.parametrize("backend", LOCAL)
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("nan", r"returned an .* cannot be shown in the task 2: .*: nan is not finite"),
        ("outside", r"shown in the task 2: .*: 20000\.0 is outside of the observation_space"),
        (
            "narrow",
            r"play a step in the task 2: .*: it is not of shape \[2\], as the observation_sp",
        ),
    ],
)
def test_observations(fault: str, told: str, backend: str) -> None:
    with pytest.raises(FailedEnvironmentError, match=rf"^{ENVS}:Faulty .*{told}"):
        play_fault(fault, backend)


@pytest.mark.parametrize("backend", ["batched", "vector"])
@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("number", 0, "number has 0, which is outside of the observation_space"),
        ("number", 1.5, "number has 1.5, which is outside of the observation_space"),
        ("number", np.nan, "number has nan, which is not finite"),
        ("double", [np.inf], "inner_double has inf, which is not finite"),
        ("flags", [1, 2], r"flags has 2\.0, which is outside of the observation_space"),
        ("flags", [1], r"flags is not of shape \[2\], as the observation_space says"),
        ("flags", ["a", "b"], "flags is of dtype <U1, not of numbers"),
        ("picture", 300, "picture has 300, which is outside of the observation_space"),
        ("picture", [[1, 2]], r"picture is not of shape \[14, 15, 3\]"),
    ],
)
def test_parts_of_observations(part: str, value: Any, told: str, backend: str) -> None:
    env = tasks_of(
        "OfSeveral",
        backend,
        tasks=[2.0, 2.0],
        task_by="method",
        kwargs={"fault": part, "value": value},
    )
    with pytest.raises(
        FailedEnvironmentError, match=rf"^{ENVS}:OfSeveral .* in the task 2\.0: .*: {told}"
    ) as caught:
        play_steps(env, 2)
    assert "\n" not in str(caught.value)
    env.close()


@pytest.mark.parametrize("backend", ["batched", "vector"])
def test_a_picture_of_larger_numbers_may_hold_bytes(backend: str) -> None:
    kwargs = {"fault": "picture", "value": 100}
    env = tasks_of("OfSeveral", backend, tasks=[2.0, 2.0], task_by="method", kwargs=kwargs)
    shown = play_steps(env, 2)["picture"]
    assert shown.dtype == torch.uint8
    assert shown.unique().tolist() == [100]
    env.close()


@pytest.mark.parametrize("backend", LOCAL)
def test_an_environment_that_raises(backend: str) -> None:
    told = r":Faulty cannot play a step in the task 2: ZeroDivisionError: the pole is nowhere$"
    with pytest.raises(FailedEnvironmentError, match=told):
        play_fault("raises", backend)


@pytest.mark.parametrize("backend", LOCAL)
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("words", "ValueError: could not convert string to float: 'much'"),
        ("nothing", "TypeError: float"),
        ("endless", "ValueError: the reward is inf"),
    ],
)
def test_rewards_that_are_no_numbers(fault: str, told: str, backend: str) -> None:
    with pytest.raises(
        FailedEnvironmentError, match=rf":Faulty cannot play a step in the task 2: {told}"
    ):
        play_fault(fault, backend)


def test_a_worker_that_dies() -> None:
    told = r":Faulty has lost its process \(exit code -9\) in the task 2$"
    with pytest.raises(FailedEnvironmentError, match=told):
        play_fault("dies", "process")


def test_a_worker_that_hangs() -> None:
    told = r":Faulty does not answer within 0\.3 s in the task 2$"
    with pytest.raises(FailedEnvironmentError, match=told):
        play_fault("hangs", "process", 0.3)
