"""Observations, actions and tasks as arrays."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.gymnasium.actions import ActionLayout
from rl2_lightning.families.gymnasium.observations import ObservationLayout
from tests.families.gymnasium.played import ENVS

NUMBER = spaces.Discrete(2, start=5)


def test_parts_of_the_same_name_are_refused() -> None:
    space = spaces.Dict({"a_b": NUMBER, "a": spaces.Dict({"b": NUMBER})})
    with pytest.raises(UserError, match=r"^Env has two parts .* called a_b here.*: rename one$"):
        ObservationLayout(space, "Env")


def test_rows_that_have_not_begun_can_be_shown() -> None:
    layout = ObservationLayout(NUMBER, "Env")
    arrays = layout.allocate(3, np.zeros)
    layout.write(arrays, 1, 6)
    assert layout.shown(arrays)[""].tolist() == [[1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_lie_within_the_bounds_of_their_space(dtype: type) -> None:
    space = spaces.Box(-0.1, 0.1, (2,), dtype)
    layout = ActionLayout(space, "Env", None)
    actions = np.array([[-0.1, 0.1], [0.05, 9.0]], np.float32)
    for action in layout.decoded(actions):
        assert space.contains(action)


@pytest.mark.parametrize("tasks", [[0, 0.5, 1], [0.5, 1, 0], [1, 0, 0.5]])
def test_lists_may_mix_whole_numbers_and_fractions(tasks: list[float]) -> None:
    family = GymnasiumTasks(
        2,
        id=f"{ENVS}:Counting",
        horizon=6,
        task_by="method",
        training_tasks=tasks,
        held_out_tasks=[3, *tasks],
    )
    drawn = family.sample_tasks(4)["task"]
    assert drawn.dtype == torch.float32
    assert sorted(drawn.flatten().tolist()) == [0, 0.5, 1, 3]


def test_all_tasks_of_a_list_are_checked() -> None:
    with pytest.raises(UserError, match=r"gives .*:Counting the task 'x': give numbers"):
        GymnasiumTasks(
            2,
            id=f"{ENVS}:Counting",
            horizon=6,
            task_by="method",
            training_tasks=[1, 2, 3, 4, 5, "x"],
            tasks=[0, 5],
        )
