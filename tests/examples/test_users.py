"""Users of the service: nothing is lost, nothing is done twice, mistakes concern nobody else."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.personalisation.messages import Act, Add, Drop, Observe, Show
from examples.personalisation.replay import Replay
from examples.personalisation.store import Store
from examples.personalisation.users import Users
from rl2_lightning import Agent
from rl2_lightning.errors import UserError
from tests.examples.agents import (
    CHECKPOINT,
    CHECKPOINTS,
    RETRAINED,
    ask,
    body_of,
    make_users,
    play,
)


class Clock:
    """A clock that is put forward by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_stored_is_what_the_agent_alone_remembers(tmp_path: Path) -> None:
    agent = Agent.load(CHECKPOINT)
    users, replay = make_users(tmp_path), Replay(agent)
    names = [f"user{number}" for number in range(5)]
    for name in names:
        body_of(users, Add(name))
        replay.add(name)
    for turn in range(6):
        asking = names[turn % 3 :]
        for name, (_, answer) in zip(asking, ask(users, *map(Act, asking)), strict=True):
            replay.act(name, answer["decision"], answer["action"])
            if (turn, name) != (5, "user4"):
                body_of(users, Observe(name, answer["decision"], turn / 5))
                replay.observe(name, turn / 5)
    users.close()
    path = tmp_path / "users.db"
    assert replay.differences(path, {}) == []
    # Another reward would have been found.
    replay.users["user3"].reward = 0.7
    assert len(replay.differences(path, {})) == 1
    replay.users["user3"].reward = 1.0
    replay.users["user3"].inputs = replay.users["user2"].inputs
    replay.users["user3"].state = replay.users["user2"].state
    (line,) = replay.differences(path, {})
    assert line.startswith("the memory of user3 differs")
    assert replay.differences(path, {"user3": "act"}) == []
    # Someone who is not there may have been deleted, and someone who is there added.
    replay.add("gone")
    assert replay.differences(path, {"user3": "act", "gone": "act"}) == ["gone is lost"]
    assert replay.differences(path, {"user3": "act", "gone": "drop"}) == []
    replay.users.pop("gone")
    replay.users.pop("user0")
    assert replay.differences(path, {"user3": "act", "user0": "add"}) == []
    (line,) = replay.differences(path, {"user3": "act"})
    assert line == "1 users are in the database who were deleted"


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    without = make_users(tmp_path, greedy=True)
    body_of(without, Add("ann"))
    expected = play(without, "ann", 8)
    without.close()
    (tmp_path / "again").mkdir()
    actions = []
    for start in range(4):
        users = make_users(tmp_path / "again", greedy=True)
        if start == 0:
            body_of(users, Add("ann"))
        actions += play(users, "ann", 2)
        users.close()
    assert actions == expected
    assert len(set(expected)) > 1


def test_acting_twice_is_one_decision(tmp_path: Path) -> None:
    users = make_users(tmp_path)
    body_of(users, Add("ann"))
    first = body_of(users, Act("ann"))
    assert 0 < first["probability"] < 1
    assert all(body_of(users, Act("ann")) == first for _ in range(10))
    assert body_of(users, Show("ann"))["awaited"]["decision"] == first["decision"]
    users.close()
    users = make_users(tmp_path)
    assert body_of(users, Act("ann")) == first
    assert [reply for _, reply in ask(users, Act("ann"), Act("ann"))] == [first, first]


def test_observing_twice_is_one_reward(tmp_path: Path) -> None:
    users = make_users(tmp_path)
    body_of(users, Add("ann"))
    first = body_of(users, Act("ann"))["decision"]
    told = body_of(users, Observe("ann", first, 1.0))
    stored = users._session.save("ann")
    assert body_of(users, Observe("ann", first, 1.0)) == told
    assert users._session.save("ann") == stored
    ((status, body),) = ask(users, Observe("ann", first, 0.0))
    assert status == 409
    assert "has had the reward 1, and not 0" in body["error"]
    second = body_of(users, Act("ann"))["decision"]
    assert body_of(users, Observe("ann", first, 1.0)) == told  # late, and no reward of the second
    assert body_of(users, Show("ann"))["awaited"]["decision"] == second


def test_ids_are_never_used_again(tmp_path: Path) -> None:
    users = make_users(tmp_path)
    body_of(users, Add("ann"))
    old = body_of(users, Act("ann"))["decision"]
    assert body_of(users, Drop("ann")) == {"user": "ann", "deleted": True}
    assert body_of(users, Drop("ann")) == {"user": "ann", "deleted": False}
    body_of(users, Add("ann"))
    assert body_of(users, Show("ann"))["decisions"] == 0
    assert body_of(users, Act("ann"))["decision"] != old
    ((status, body),) = ask(users, Observe("ann", old, 1.0))
    assert (status, body["error"].split(":")[0]) == (409, f"user 'ann' has no decision {old}")


def test_one_call_may_name_a_user_several_times(tmp_path: Path) -> None:
    users = make_users(tmp_path)
    replies = ask(users, Add("ann"), Add("bob"), Act("ann"), Act("bob"), Act("ann"), Drop("bob"))
    assert [status for status, _ in replies] == [201, 201, 200, 200, 200, 200]
    assert replies[2] == replies[4]
    assert ask(users, Show("bob"))[0][0] == 404
    (_, told), (status, answer) = ask(
        users, Observe("ann", replies[2][1]["decision"], 1.0), Act("ann")
    )
    assert status == 200
    assert answer["decision"] != told["decision"]


MISTAKES = [
    (Act("nobody"), 404, "user 'nobody' is unknown"),
    (Act("bad", [1.0, 2.0]), 422, "the observation of user 'bad' has shape [2]"),
    (Act("bad", [math.nan]), 422, "the observation of user 'bad' is not finite"),
    (Act("bad", [1e39]), 422, "the observation of user 'bad' is not finite"),
    (Act("bad", ["1"]), 422, "the observation of user 'bad' has no numbers"),
    (Act("bad", [[1], [2, 3]]), 422, "the observation of user 'bad' has no numbers"),
    (Act("bad", [None]), 422, "the observation of user 'bad' has no numbers"),
    (Act("bad", {"x": 1}), 422, "the observation of user 'bad' has no numbers"),
    (Observe("bad", "1-1", 1.0), 409, "user 'bad' has no decision 1-1"),
    (Observe("bad", None, 1.0), 422, "decision None is no id"),
    (Observe("bad", "2-1\n", 1.0), 422, "decision '2-1\\n' is no id"),
    (Observe("waits", "3-1", math.nan), 422, "the reward of user 'waits' is nan"),
    (Observe("waits", "3-1", 10**400), 422, "the reward of user 'waits' is 1000"),
    (Observe("waits", "3-1", "1"), 422, "the reward of user 'waits' is '1'"),
    (Observe("waits", "3-1", None), 422, "the reward of user 'waits' is None"),
    (Observe("waits", "3-1", 1.0, "yes"), 422, "done of user 'waits' is 'yes'"),
    (Observe("waits", "3-2", 1.0), 409, "user 'waits' has no decision 3-2"),
    (Add(""), 422, "user ''"),
    (Add("a\nb"), 422, "user 'a\\nb'"),
    (Add("x" * 201), 422, "user 'xxx"),
    (Add("\ud800"), 422, "user '\\ud800'"),
    (Act("\ud800"), 404, "user '\\ud800' is unknown"),
]


@pytest.mark.parametrize(("mistake", "status", "line"), MISTAKES, ids=str)
def test_a_mistake_is_one_line_and_others_are_served_on(
    tmp_path: Path, mistake: Any, status: int, line: str
) -> None:
    users = make_users(tmp_path)
    ask(users, Add("good"), Add("bad"), Add("waits"), Act("waits"))
    before = [body_of(users, Show(name)) for name in ("bad", "waits")]
    first, found, last = ask(users, Act("good"), mistake, Add("new"))
    assert (first[0], found[0], last[0]) == (200, status, 201)
    assert found[1]["error"].startswith(line), found
    assert "\n" not in found[1]["error"]
    assert [body_of(users, Show(name)) for name in ("bad", "waits")] == before


def test_an_agent_that_cannot_go_on_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the session finds in a batch is found with each user alone."""
    users = make_users(tmp_path)
    ask(users, Add("good"), Add("bad"))
    step = users._session.step

    def fails(observation: Any, names: list[str]) -> Any:
        if "bad" in names:
            raise UserError("user 'bad' has an observation that is too large")
        return step(observation, names)

    with monkeypatch.context() as broken:
        broken.setattr(users._session, "step", fails)
        good, bad = ask(users, Act("good"), Act("bad"))
    assert good[0] == 200
    assert bad == (422, {"error": "user 'bad' has an observation that is too large"})
    assert body_of(users, Show("bad"))["decisions"] == 0
    assert len(play(users, "bad", 2)) == 2


def test_a_fault_of_the_service_is_told_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    users = make_users(tmp_path)
    body_of(users, Add("ann"))
    play(users, "ann", 2)
    with monkeypatch.context() as broken:
        broken.setattr(users._session, "step", lambda *_: 1 / 0)
        replies = ask(users, Act("ann"), Add("bob"))
    assert [status for status, _ in replies] == [500, 201]
    assert "ZeroDivisionError" in caplog.text
    assert body_of(users, Show("ann"))["decisions"] == 2
    assert len(play(users, "ann", 2)) == 2


def test_a_database_that_cannot_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = make_users(tmp_path)
    body_of(users, Add("ann"))
    play(users, "ann", 3)
    stored = users._session.save("ann")

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(users._store, "write", full)
        ((status, body),) = ask(users, Act("ann"))
        assert status == 503
        assert "database or disk is full" in body["error"]
        assert users.fault is not None
        assert len(users) == 0
    assert body_of(users, Show("ann"))["decisions"] == 3
    assert users._session.save("ann") == stored
    assert users.fault is None


def test_idle_users_leave_the_memory_and_later_the_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    users = make_users(tmp_path, idle_seconds=60, keep_seconds=86400, clock=clock, greedy=True)
    ask(users, Add("ann"), Add("bob"))
    play(users, "ann", 3)
    clock.now += 50
    play(users, "bob", 3)
    clock.now += 20
    users.expire()
    assert list(users._users) == ["bob"]
    assert users._session.users == ["bob"]
    assert users.count() == (2, 0)
    clock.now += 86350  # ann's time is over, bob's is not
    users.expire()
    assert ask(users, Show("ann"))[0][0] == 404
    assert body_of(users, Show("bob"))["decisions"] == 3
    assert caplog.messages == ["1 users deleted after 1 days without a decision"]


def test_a_user_who_was_idle_goes_on(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    clock = Clock()
    idle = make_users(tmp_path, idle_seconds=1, clock=clock, greedy=True)
    busy = make_users(tmp_path / "other", greedy=True)
    actions = []
    for users in (idle, busy):
        body_of(users, Add("ann"))
    for _ in range(6):
        actions += play(idle, "ann", 1)
        clock.now += 2
        idle.expire()
        assert len(idle) == 0
    assert actions == play(busy, "ann", 6)


def test_memories_of_another_agent_are_told_and_kept(tmp_path: Path) -> None:
    users = make_users(tmp_path)
    ask(users, Add("ann"), Add("bob"))
    play(users, "ann", 2)
    users.close()
    retrained = make_users(tmp_path, RETRAINED)
    assert retrained.count() == (2, 2)
    for request in (Act("ann"), Show("ann"), Add("ann")):
        ((status, body),) = ask(retrained, request)
        assert status == 409
        assert "it is of another agent" in body["error"]
    assert body_of(retrained, Drop("bob"))["deleted"]
    replies = ask(retrained, Add("bob"), Act("bob"))
    assert [status for status, _ in replies] == [201, 200]
    assert retrained.count() == (2, 1)
    retrained.close()
    assert body_of(make_users(tmp_path), Show("ann"))["decisions"] == 2


def test_a_damaged_memory_stops_its_user_alone(tmp_path: Path) -> None:
    users = make_users(tmp_path)
    ask(users, Add("ann"), Add("bob"))
    users.close()
    with sqlite3.connect(tmp_path / "users.db") as database:
        database.execute("UPDATE users SET memory = x'00ff' WHERE name = 'ann'")
    database.close()
    users = make_users(tmp_path)
    ann, bob = ask(users, Act("ann"), Act("bob"))
    assert (ann[0], bob[0]) == (409, 200)
    assert ann[1]["error"] == (
        "the memory of user 'ann' cannot be used (it is damaged): restore a copy of the database, "
        "or delete and add the user"
    )


@pytest.mark.parametrize("name", ["pendulum_seed1", "maze_3x3_seed1"])
def test_agents_that_cannot_be_served(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "users.db")
    with pytest.raises(UserError, match="the service needs one array"):
        Users(Agent.load(CHECKPOINTS / f"{name}.ckpt"), store)
    store.close()


def test_probabilities_are_those_of_the_choices(tmp_path: Path) -> None:
    users = make_users(tmp_path)
    names = [f"user{number}" for number in range(2000)]
    ask(users, *map(Add, names))
    answers = [body for _, body in ask(users, *map(Act, names))]
    told = {answer["action"]: answer["probability"] for answer in answers}
    counts = torch.bincount(torch.tensor([answer["action"] for answer in answers]), minlength=5)
    for action, probability in told.items():
        spread = math.sqrt(probability * (1 - probability) / len(names))
        assert abs(counts[action] / len(names) - probability) < 4 * spread + 1e-3
    assert math.isclose(sum(told.values()), 1, abs_tol=1e-3)
