"""The environments of a run: created on request, pooled, and closed at its end."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.config import TrialConfig
from rl2_lightning.data.world import World
from rl2_lightning.families.point_robot import PointRobot
from rl2_lightning.families.task_env import TaskEnv
from tests.builders import compose_config
from tests.corridor import Corridor

CPU = torch.device("cpu")


def robots(num_tasks: int, device: torch.device | str) -> PointRobot:
    return PointRobot(num_tasks, device, horizon=5)


def world_of(make: Any = robots, **lengths: int | None) -> World:
    trial = {"episodes_per_trial": None, "steps_per_trial": None, "continues": False, **lengths}
    return World(make, TrialConfig(**trial))


def test_lengths_are_given_in_episodes_or_in_steps() -> None:
    episodes, steps = world_of(episodes_per_trial=3), world_of(steps_per_trial=12)
    assert (episodes.trial_length, episodes.steps_per_unit) == (3, 5)
    assert (steps.trial_length, steps.steps_per_unit) == (12, 1)
    assert [world.specimen.max_steps for world in (episodes, steps)] == [15, 12]
    assert episodes.make_trials(4, CPU, length=2).max_steps == 10
    assert steps.make_trials(4, CPU, length=2).max_steps == 2


@pytest.mark.parametrize(
    ("make", "lengths", "whole"),
    [
        (robots, {"episodes_per_trial": 3}, True),
        (robots, {"steps_per_trial": 10}, True),
        (robots, {"steps_per_trial": 12}, False),
        (Corridor, {"episodes_per_trial": 3}, True),
        (Corridor, {"steps_per_trial": 10}, False),
    ],
)
def test_whether_trials_hold_the_same_episodes(make, lengths: dict[str, int], whole: bool) -> None:
    assert world_of(make, **lengths).has_whole_episodes is whole


def test_options_reach_the_trials() -> None:
    world = world_of(episodes_per_trial=3, continues=True)
    assert world.continues
    env = world.make_trials(4, CPU, shows_position=True, expected_rewards=True)
    assert env.batch_size == (4,)
    assert (env.continues, env.shows_position, env.expected_rewards) == (True, True, True)


def test_the_pool_gives_the_same_ones_again() -> None:
    world = world_of(episodes_per_trial=3)
    first = world.trials(4, CPU)
    assert world.trials(4, CPU) is first
    assert world.tasks(4, CPU) is world.tasks(4, "cpu")
    assert world.tasks(4, CPU) is not world.make_tasks(4, CPU)
    others = [world.trials(5, CPU), world.trials(4, CPU, shows_position=True)]
    assert all(other is not first for other in others)
    assert world.make_trials(4, CPU) is not first


def test_all_that_was_asked_for_is_closed() -> None:
    world = world_of(episodes_per_trial=3)
    pooled = [world.trials(4, CPU), world.trials(5, CPU), world.tasks(6, CPU)]
    pooled[0].close()
    world.close()
    assert all(env.is_closed for env in pooled)
    # After closing, it creates new environments instead of returning closed ones.
    again = world.trials(4, CPU)
    assert not again.is_closed
    again.begin()


def sizes_of(made: list[TaskEnv]) -> list[int]:
    """The sizes, without environments that are only used for their specs."""
    return sorted(env.num_tasks for env in made if env.num_tasks > 1)


def test_a_run_closes_its_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[TaskEnv] = []
    closed: list[TaskEnv] = []
    init, close = PointRobot.__init__, PointRobot.close

    def spy(self, *arguments, **settings) -> None:
        init(self, *arguments, **settings)
        made.append(self)

    def note(self, **options) -> None:
        closed.append(self)
        close(self, **options)

    monkeypatch.setattr(PointRobot, "__init__", spy)
    monkeypatch.setattr(PointRobot, "close", note)
    cfg = compose_config(
        tmp_path,
        "env=point_robot",
        "env.horizon=2",
        "trial.episodes_per_trial=2",
        "collection.num_trials=8",
        "collection.total_env_steps=96",
        "+collection.curriculum={short:{env_steps:32,num_trials:16,trial_length:1}}",
        "evaluation.validation_tasks=4",
        "evaluation.test_tasks=6",
        "trainer.check_val_every_n_epoch=1",
        "trainer.accelerator=cpu",
    )
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    trainer.fit(learner, data)
    # Two stages; three validations for each way of acting, and by two reference players.
    assert sizes_of(made) == [2, 4, 4, 8, 16]
    assert {id(env) for env in made} <= {id(env) for env in closed}
    trainer.test(learner, data, verbose=False)
    assert sizes_of(made) == [2, 3, 4, 4, 6, 6, 8, 16], "and three are drawn"
    assert {id(env) for env in made} <= {id(env) for env in closed}
