"""Agents, users and services for the tests of the examples."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from examples.personalisation.messages import Act, Observe, Request
from examples.personalisation.service import bound_socket, make_app
from examples.personalisation.store import Store
from examples.personalisation.users import Users
from rl2_lightning import Agent

ROOT = Path(__file__).parents[2]
CHECKPOINTS = ROOT / "results" / "checkpoints"
CHECKPOINT = CHECKPOINTS / "mab_n10_k5_seed1.ckpt"
RETRAINED = CHECKPOINTS / "mab_n10_k5_seed2.ckpt"


def make_users(folder: Path, checkpoint: Path = CHECKPOINT, **options: Any) -> Users:
    """Users of an agent with 5 arms, in the database of a folder."""
    return Users(Agent.load(checkpoint), Store(folder / "users.db"), seed=1, **options)


def ask(users: Users, *requests: Request) -> list[tuple[int, Any]]:
    """The statuses and bodies of the replies."""
    return [tuple(reply) for reply in users.handle(requests)]


def body_of(users: Users, request: Request) -> dict[str, Any]:
    """The body of a reply to a request that succeeds."""
    ((status, body),) = ask(users, request)
    assert status < 300, body
    return body


def play(users: Users, name: str, num: int, reward: float = 0.0) -> list[int]:
    """Some decisions with their rewards; the actions."""
    actions = []
    for _ in range(num):
        answer = body_of(users, Act(name))
        body_of(users, Observe(name, answer["decision"], reward))
        actions.append(answer["action"])
    return actions


@contextmanager
def serving(users: Users) -> Iterator[str]:
    """A service in a thread; its URL."""
    listening = bound_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(users), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
