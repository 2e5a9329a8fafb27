"""Held-out tasks are environments of their own, of which only some exist at once."""

from typing import Any

import pytest

from rl2_lightning.config import TrialConfig
from rl2_lightning.data.seeding import Purpose
from rl2_lightning.data.world import World
from rl2_lightning.evaluation.evaluate import evaluate
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv
from tests.builders import make_agent
from tests.families.gymnasium.envs import Alive
from tests.families.gymnasium.played import ENVS, NUM_EPISODES

BATCH = 8


def make(num_tasks: int, device: Any, task_by: str) -> GymnasiumTasks:
    settings = {"id": f"{ENVS}:Alive", "horizon": 2, "tasks": [1.0, 2.0], "task_by": task_by}
    return GymnasiumTasks(num_tasks, device, **settings)


@pytest.mark.parametrize("task_by", ["method", "constructor"])
def test_many_tasks_are_played_in_few_environments(task_by: str) -> None:
    Alive.num = Alive.most = 0
    trial = TrialConfig(episodes_per_trial=NUM_EPISODES, steps_per_trial=None, continues=False)
    world = World(lambda **given: make(**given, task_by=task_by), trial)
    held_out = HeldOut(world, Purpose.TEST_TASKS, 10_000, 0, BATCH)
    assert len(held_out) == 10_000
    assert Alive.most == 1  # which was looked at
    few = HeldOut(world, Purpose.TEST_TASKS, 10 * BATCH + 3, 0, BATCH)
    agent = make_agent(TrialEnv(make(1, "cpu", task_by), episodes_per_trial=NUM_EPISODES))
    curves = evaluate(agent, few).curves
    assert curves["greedy"].num_trials == 10 * BATCH + 3
    few.reference_curves()
    # A batch and the rest of the agent, and the same of the random player.
    assert Alive.most <= 2 * (BATCH + 3) + 1
    world.close()
    assert Alive.num == 0
