"""The load test plays what it says, and sees users adapt."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from examples.personalisation.client import Client
from examples.personalisation.load_test import (
    add_users,
    count_kept,
    draw_load,
    play,
    print_report,
    require_time_for_rewards,
)
from examples.personalisation.store import Store
from examples.personalisation.users import Users
from rl2_lightning import Agent
from rl2_lightning.errors import UserError
from tests.examples.agents import CHECKPOINT, serving

USERS, DECISIONS = 60, 10


def test_times_are_those_of_the_rate() -> None:
    load = draw_load(200, 50, 5, rate=500.0, reward_after=1.0, seed=1)
    gaps = np.diff(load.due.flatten())
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 500, rel=0.05)  # a Poisson process
    assert load.arms.shape == (200, 5)


@pytest.mark.parametrize(("reward_after", "is_possible"), [(0.05, True), (0.3, False)])
def test_rewards_come_before_the_next_decision(reward_after: float, is_possible: bool) -> None:
    load = draw_load(20, 2, 5, rate=100.0, reward_after=reward_after, seed=1)
    if is_possible:
        require_time_for_rewards(load)
        return
    with pytest.raises(UserError, match=r"^reward_after=0\.3: a user comes back after 0\.\d+ s, "):
        require_time_for_rewards(load)


def test_one_decision_has_all_the_time() -> None:
    require_time_for_rewards(draw_load(20, 1, 5, rate=100.0, reward_after=9.0, seed=1))


def test_users_adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = Users(Agent.load(CHECKPOINT), Store(tmp_path / "users.db"), greedy=True, seed=1)
    load = draw_load(USERS, DECISIONS, users.num_actions, 300.0, 0.05, seed=1)

    async def drive(url: str) -> object:
        async with Client(url) as client:
            await add_users(client, USERS)
            outcome = await play(client, load)
        assert await count_kept(url, USERS, DECISIONS) == USERS
        assert await count_kept(url, USERS, DECISIONS - 1) == 0
        return outcome

    with serving(users) as url:
        outcome = asyncio.run(drive(url))
    assert outcome.chances[-3:].mean() > load.arms.mean() + 0.1
    np.testing.assert_allclose(outcome.rewards.mean(), outcome.chances.mean(), atol=0.08)
    assert outcome.act_seconds.min() > 0
    assert outcome.observe_seconds.min() > 0
    print_report(load, outcome, cpu_seconds=6.0)
    told = capsys.readouterr().out
    assert f"600 decisions of {USERS} users" in told
    assert "10.00 ms of CPU time each" in told
    assert f"{load.arms.max(1).mean():.3f}" in told
