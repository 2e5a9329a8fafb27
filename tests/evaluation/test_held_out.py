"""Held-out tasks and the curves of their oracles."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.evaluation import held_out
from rl2_lightning.evaluation.held_out import HeldOutTasks
from rl2_lightning.oracles.oracle import Oracle

NUM_EPISODES = 3


class NoisyOracle(Oracle):
    """Gets each task's level, times its skill, plus noise in each episode."""

    def __init__(self, skill: float) -> None:
        self.skill = skill
        self.sizes: list[int] = []

    def play(self, tasks, num_episodes, generator):
        self.sizes.append(len(tasks))
        noise = torch.randn(len(tasks), num_episodes, generator=generator)
        return self.skill * tasks["level"] + 0.1 * noise


def make_held_out(seed: int = 0, **oracles: Oracle) -> HeldOutTasks:
    family = cast(TaskEnv, SimpleNamespace(oracles=lambda num_episodes: oracles))
    tasks = TensorDict({"level": torch.linspace(0, 2, 25).unsqueeze(-1)}, batch_size=[25])
    return HeldOutTasks(family, tasks, NUM_EPISODES, seed)


def test_oracles_play_each_task_once_in_chunks(monkeypatch):
    monkeypatch.setattr(held_out, "TASKS_PER_CHUNK", 10)
    good, best = NoisyOracle(0.5), NoisyOracle(1.0)
    tasks = make_held_out(good=good, best=best)
    curves = tasks.oracle_curves()
    again = tasks.oracle_curves()
    assert list(curves) == ["good", "best"]
    assert curves["best"] is again["best"]
    assert good.sizes == best.sizes == [10, 10, 5]
    assert curves["best"].num_trials == 25
    assert curves["best"].mean.shape == (NUM_EPISODES,)
    assert curves["best"].trial_return == pytest.approx(3.0, abs=0.1)
    assert tasks.reference == "best"
    assert tasks.share_of_reference(curves["good"]) == pytest.approx(0.5, abs=0.03)
    assert tasks.share_of_reference(curves["best"]) == 1.0


def test_curves_come_from_the_seed_and_the_name_alone():
    def curve(seed, **others):
        return make_held_out(seed, **others, best=NoisyOracle(1.0)).oracle_curves()["best"]

    assert torch.equal(curve(0).mean, curve(0, other=NoisyOracle(0.2)).mean)
    assert not torch.equal(curve(0).mean, curve(1).mean)


def test_a_family_without_oracles():
    tasks = make_held_out()
    curve = make_held_out(best=NoisyOracle(1.0)).oracle_curves()["best"]
    assert tasks.oracle_curves() == {}
    assert tasks.reference is None
    assert tasks.share_of_reference(curve) is None
