"""The service over HTTP."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from examples.personalisation import batching
from examples.personalisation.batching import Batcher
from examples.personalisation.messages import Act, Add, Reply
from tests.examples.agents import CHECKPOINT, RETRAINED, ROOT, make_users, serving
from tests.forked import forked, variables_of_a_shell


def http(
    url: str, method: str, path: str, body: Any = None, raw: bytes | None = None
) -> tuple[int, Any]:
    """The status and the body of a response."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serving(make_users(tmp_path)) as url:
        yield url


def test_a_user_from_first_to_last(url: str) -> None:
    assert http(url, "PUT", "/v1/users/ann")[0] == 201
    assert http(url, "PUT", "/v1/users/ann")[0] == 200
    status, decided = http(url, "POST", "/v1/users/ann/act", {"observation": [1.0]})
    assert (status, sorted(decided)) == (200, ["action", "decision", "probability", "user"])
    assert http(url, "POST", "/v1/users/ann/act") == (200, decided)
    told = {"decision": decided["decision"], "reward": 1}
    expected = (200, {"user": "ann", "decision": decided["decision"]})
    assert http(url, "POST", "/v1/users/ann/observe", told) == expected
    assert http(url, "POST", "/v1/users/ann/observe", told) == expected
    status, shown = http(url, "GET", "/v1/users/ann")
    assert (shown["decisions"], shown["awaited"]) == (1, None)
    assert http(url, "DELETE", "/v1/users/ann") == (200, {"user": "ann", "deleted": True})
    assert http(url, "GET", "/v1/users/ann")[0] == 404
    status, health = http(url, "GET", "/health")
    assert (status, health["status"], health["actions"]) == (200, "ok", 5)


def test_names_of_any_alphabet(url: str) -> None:
    for name in ("%C3%A9lodie", "a%20b", "100%25"):
        assert http(url, "PUT", f"/v1/users/{name}")[0] == 201
        assert http(url, "POST", f"/v1/users/{name}/act")[0] == 200


def test_several_users_in_one_call(url: str) -> None:
    for name in ("ann", "bob"):
        http(url, "PUT", f"/v1/users/{name}")
    asked = [{"user": "ann"}, {"user": "eve"}, {"user": "bob", "observation": [1, 2]}]
    status, answer = http(url, "POST", "/v1/act", {"requests": asked})
    ann, eve, bob = answer["replies"]
    assert (status, ann["status"], eve["status"], bob["status"]) == (200, 200, 404, 422)
    assert [one["user"] for one in (ann, eve, bob)] == ["ann", "eve", "bob"]
    told = [
        {"user": "ann", "decision": ann["decision"], "reward": 1.0},
        {"user": "bob", "decision": "2-1", "reward": 1.0},
    ]
    status, answer = http(url, "POST", "/v1/observe", {"requests": told})
    assert [one["status"] for one in answer["replies"]] == [200, 409]


@pytest.mark.parametrize(
    ("method", "path", "raw", "status", "line"),
    [
        ("POST", "/v1/users/ann/act", b"{", 422, "body.1: JSON decode error"),
        ("POST", "/v1/users/ann/act", b'{"seen": [1]}', 422, "body.seen: Extra inputs are not"),
        ("POST", "/v1/users/ann/act", b'{"observation": [NaN]}', 422, "the observation of user"),
        ("POST", "/v1/users/ann/act", b"\x80{}", 400, "There was an error parsing the body"),
        ("POST", "/v1/users/ann/observe", b'{"reward": 1}', 422, "body.decision: Field required"),
        ("POST", "/v1/users/eve/act", None, 404, "user 'eve' is unknown"),
        ("POST", "/v1/act", b'{"requests": 1}', 422, "body.requests: Input should be a valid list"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("PATCH", "/health", None, 405, "Method Not Allowed"),
    ],
)
def test_mistakes_are_one_line(
    url: str, method: str, path: str, raw: bytes | None, status: int, line: str
) -> None:
    http(url, "PUT", "/v1/users/ann")
    found, body = http(url, method, path, raw=raw)
    assert found == status, body
    assert list(body) == ["error"]
    assert body["error"].startswith(line), body
    assert "\n" not in body["error"]
    assert http(url, "POST", "/v1/users/ann/act")[0] == 200


def chunks(body: bytes) -> Iterator[bytes]:
    """Parts of a body, sent without a length."""
    for start in range(0, len(body), 2**16):
        yield body[start : start + 2**16]


@pytest.mark.parametrize("size", [2**20 + 1, 2**24])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_large_body_is_refused(url: str, size: int, has_length: bool) -> None:
    body = b"[" * size if has_length else chunks(b"[" * size)
    request = urllib.request.Request(f"{url}/v1/act", body, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    told = "body: it is larger than 1,048,576 bytes, send fewer users in a request"
    assert (refused.value.code, json.load(refused.value)) == (413, {"error": told})


def test_a_body_of_the_largest_size_is_read(url: str) -> None:
    body = b'{"requests": []' + b" " * (2**20 - 16) + b"}"
    assert http(url, "POST", "/v1/act", raw=body) == (200, {"replies": []})


def test_users_ask_at_the_same_time(url: str, tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(40)]

    def play(name: str) -> int:
        http(url, "PUT", f"/v1/users/{name}")
        for _ in range(5):
            decided = http(url, "POST", f"/v1/users/{name}/act")[1]["decision"]
            told = {"decision": decided, "reward": 1.0}
            assert http(url, "POST", f"/v1/users/{name}/observe", told)[0] == 200
        return http(url, "GET", f"/v1/users/{name}")[1]["decisions"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(play, names)) == [5] * len(names)
    health = http(url, "GET", "/health")[1]
    assert health["answered"] == 40 * 12
    assert health["batches"] < health["answered"]


class Echo:
    """Answers after a while, as with a slow disk; keeps how much it was asked at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.asked: list[int] = []
        self._seconds = seconds

    def handle(self, requests: Any) -> list[Reply]:
        time.sleep(self._seconds)
        self.asked.append(len(requests))
        return [Reply(200, {"user": one.user}) for one in requests]

    def expire(self) -> None:
        pass


def test_waiting_requests_are_answered_together_and_in_order() -> None:
    async def ask() -> tuple[list[Any], list[int]]:
        users = Echo()
        batcher = Batcher(users, asyncio.get_running_loop())  # type: ignore[arg-type]
        calls = [batcher.answer([Act(f"{call}"), Add(f"{call}")]) for call in range(300)]
        replies = await asyncio.gather(*calls)
        await batcher.close()
        ended = await batcher.answer([Act("late")])
        return [*replies, ended], users.asked

    replies, asked = asyncio.run(ask())
    for call, pair in enumerate(replies[:-1]):
        assert [reply.body["user"] for reply in pair] == [f"{call}"] * 2
    assert replies[-1][0].status == 503
    assert sum(asked) == 600
    assert max(asked) == batching.MOST_AT_ONCE


def test_the_event_loop_goes_on_while_the_disk_is_slow() -> None:
    async def ask() -> int:
        batcher = Batcher(Echo(0.5), asyncio.get_running_loop())  # type: ignore[arg-type]
        answer = asyncio.create_task(batcher.answer([Act("ann")]))
        ticks = 0
        while not answer.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await batcher.close()
        return ticks

    assert asyncio.run(ask()) > 5


def test_too_many_waiting_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_WAITING", 10)

    async def ask() -> list[Any]:
        batcher = Batcher(Echo(), asyncio.get_running_loop())  # type: ignore[arg-type]
        calls = [batcher.answer([Act("ann")]) for _ in range(25)]
        replies = await asyncio.gather(*calls)
        replies.append(await batcher.answer([Act("ann")]))
        await batcher.close()
        return replies

    statuses = [reply.status for (reply,) in asyncio.run(ask())]
    assert statuses == [200] * 10 + [503] * 15 + [200]


def start(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "examples.personalisation", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=env, text=True, **pipes)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path, sent: int) -> None:
    users = make_users(tmp_path, RETRAINED)
    users.handle([Add("of another agent")])
    users.close()
    process = start(f"ckpt_path={CHECKPOINT}", "port=0", folder=tmp_path)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(3)]
    assert told[0] == "users.db: 1 users\n"
    assert told[1].startswith("1 of them have the memory of another agent than")
    url = told[2].split()[-1]
    assert http(url, "PUT", "/v1/users/ann")[0] == 201
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "stopped: the database has every user\n", "")
    assert not (tmp_path / "users.db-wal").exists()


def test_it_can_be_stopped_as_soon_as_it_has_an_address(tmp_path: Path) -> None:
    arguments = ("-m", "examples.personalisation", f"ckpt_path={CHECKPOINT}", "port=0")
    env = {**variables_of_a_shell(), "PYTHONPATH": str(ROOT)}
    with forked(arguments, tmp_path, env) as program:
        program.wait_for("serving at")
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0, program.read()


MISTAKES = [
    ([], "ckpt_path is missing: write ckpt_path=..."),
    (["ckpt_path=nothing"], "ckpt_path=nothing is not a file"),
    (["ckpt_path=it", "port=70000"], "port=70000: give a number from 0 to 65535"),
    (["ckpt_path=it", "synchronous=off"], "synchronous=off is unknown: use normal or full"),
    (["ckpt_path=it", "keep_days=0.01"], "keep_days=0.01 is not longer than idle_minutes=15"),
    (["ckpt_path=it", "idle_minutes=x"], "idle_minutes=x: give a number"),
]


@pytest.mark.parametrize(("arguments", "line"), MISTAKES, ids=str)
def test_mistakes_on_the_command_line(
    arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.personalisation.__main__ import main

    given = [text.replace("ckpt_path=it", f"ckpt_path={CHECKPOINT}") for text in arguments]
    monkeypatch.setattr(sys, "argv", ["personalisation", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value).startswith(f"error: {line}")


def test_an_address_in_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.personalisation.__main__ import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["it", f"ckpt_path={CHECKPOINT}", f"port={port}"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert str(ended.value).startswith(f"error: host=127.0.0.1 port={port} cannot be used (")
