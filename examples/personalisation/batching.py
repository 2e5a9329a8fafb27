"""Answer requests that arrive at the same time together, in a thread of their own."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from examples.personalisation.messages import Reply, Request
from examples.personalisation.users import Users

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 256  # requests in a transaction
MOST_WAITING = 2000  # requests; more are refused, since they would only wait longer and longer
SECONDS_BETWEEN_EXPIRIES = 10.0
BUSY = Reply(503, {"error": "too many requests are waiting: try again in a second"})
ENDED = Reply(503, {"error": "the service is stopping: try again"})


class Call(NamedTuple):
    """Requests of a client, and where the replies go."""

    requests: Sequence[Request]
    replies: asyncio.Future[list[Reply]]


class Batcher:
    """A thread that takes all requests that are waiting, and answers them in one transaction.

    While it waits for the disk, the event loop goes on. The longer an answer takes, the more
    requests are waiting after it, and the less each of them costs.

    Args:
        users: answers them.
        loop: where requests come from.
    """

    def __init__(self, users: Users, loop: asyncio.AbstractEventLoop) -> None:
        self._users = users
        self._loop = loop
        self._queue: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._num_waiting = 0
        self._is_closing = False
        self.num_answered = 0
        self.num_batches = 0
        self._thread = threading.Thread(target=self._run, name="users")
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive()

    async def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """The replies to requests, in their order."""
        if self._is_closing or not self.is_alive:
            return [ENDED for _ in requests]
        if self._num_waiting + len(requests) > MOST_WAITING:
            return [BUSY for _ in requests]
        call = Call(requests, self._loop.create_future())
        self._num_waiting += len(requests)
        self._queue.put(call)
        try:
            return await call.replies
        finally:
            self._num_waiting -= len(requests)

    async def close(self) -> None:
        """Answer what is waiting, and end the thread."""
        self._is_closing = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        next_expiry = time.monotonic() + SECONDS_BETWEEN_EXPIRIES
        while True:
            try:
                calls = self._waiting(max(next_expiry - time.monotonic(), 0))
            except queue.Empty:
                calls = []
            if calls is None:
                return
            if calls:
                self._answer(calls)
            if time.monotonic() >= next_expiry:
                self._expire()
                next_expiry = time.monotonic() + SECONDS_BETWEEN_EXPIRIES

    def _waiting(self, timeout: float) -> list[Call] | None:
        """The calls that are waiting, at least one; None at the end.

        Raises:
            queue.Empty: there was none for so many seconds.
        """
        calls: list[Call] = []
        num_requests = 0
        call = self._queue.get(timeout=timeout)
        while call is not None:
            calls.append(call)
            num_requests += len(call.requests)
            if num_requests >= MOST_AT_ONCE or self._queue.empty():
                return calls
            call = self._queue.get()
        if calls:  # they come first
            self._queue.put(None)
        return calls or None

    def _answer(self, calls: Sequence[Call]) -> None:
        requests = [request for call in calls for request in call.requests]
        replies = iter(self._users.handle(requests))
        self.num_answered += len(requests)
        self.num_batches += 1
        answers = [(call, [next(replies) for _ in call.requests]) for call in calls]
        self._loop.call_soon_threadsafe(_resolve, answers)

    def _expire(self) -> None:
        try:
            self._users.expire()
        except sqlite3.Error as error:
            logger.error("users whose time is over cannot be deleted: %s", error)


def _resolve(answers: Sequence[tuple[Call, list[Reply]]]) -> None:
    for call, replies in answers:
        if not call.replies.done():  # a client may have gone
            call.replies.set_result(replies)
