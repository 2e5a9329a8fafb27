"""Answer requests of many users with an agent, and keep their memories."""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from examples.personalisation.messages import (
    Act,
    Add,
    Drop,
    Observe,
    RefusedError,
    Reply,
    Request,
    Show,
)
from examples.personalisation.reading import observation_of, outcome_of, rounds, shown
from examples.personalisation.store import Store, User
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.spaces import Box, Discrete
from rl2_lightning.errors import UserError

logger = logging.getLogger(__name__)

LONGEST_NAME = 200  # characters
Batch = Mapping[int, Any]  # requests of different users, by their place among all


class Users:
    """Users of an agent, in SQLite, and those who are active in memory, too.

    Either a user in memory is as in the database, or the user is in the database alone: what a
    failed transaction has touched leaves the memory. A reply is returned after its transaction is
    committed. An object is for one thread at a time.

    Args:
        agent: the agent: one observation of float32 numbers, one discrete action.
        store: the database.
        idle_seconds: how long a user stays in memory after the last request.
        keep_seconds: how long a user stays in the database after the last change.
        greedy: whether to take the most likely actions instead of sampling.
        seed: seed of the samples; None for a new one.
        clock: seconds since 1970.

    Attributes:
        num_actions: number of actions of the agent.
        fault: why the last transaction could not be written; None if it was.

    Raises:
        UserError: the agent has other observations or actions.
    """

    def __init__(
        self,
        agent: Agent,
        store: Store,
        *,
        idle_seconds: float = math.inf,
        keep_seconds: float = math.inf,
        greedy: bool = False,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        shown, actions = agent.spec.observations, agent.spec.actions
        if not isinstance(shown, Box) or shown.dtype != "float32" or type(actions) is not Discrete:
            raise UserError(
                f"the agent observes {shown} and acts with {actions}: the service needs one array "
                "of float32 numbers and one discrete action"
            )
        self._shape = shown.shape
        self.num_actions = actions.n
        self._session = agent.session(greedy=greedy, seed=seed)
        self._store = store
        self._greedy = greedy
        self._idle, self._keep = idle_seconds, keep_seconds
        self._clock = clock
        # Those in memory, the longest idle first, each with the time of the last request.
        self._users: dict[str, tuple[User, float]] = {}
        self._changed: dict[str, User] = {}
        self.fault: str | None = None

    def __len__(self) -> int:
        """The number of users in memory."""
        return len(self._users)

    def count(self) -> tuple[int, int]:
        """The number of users, and of those whose memory is of another agent."""
        return self._store.count(self._session.identity)

    def handle(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests, in their order, in one transaction.

        If that fails, each of them has a transaction of its own, so that a request which cannot be
        answered stops no other.
        """
        try:
            return self._transaction(requests)
        except sqlite3.Error as error:
            self.fault = f"the database cannot be written to ({error})"
            logger.error(self.fault)
            line = f"{self.fault}: nothing has changed, try again"
            return [Reply(503, {"error": line}) for _ in requests]
        except UserError as error:
            if len(requests) == 1:
                return [RefusedError(422, str(error)).reply]
        except Exception:
            if len(requests) == 1:
                logger.exception("%s has failed", requests[0])
                line = "a fault of the service, which its log describes: nothing has changed"
                return [Reply(500, {"error": line})]
        return [reply for request in requests for reply in self.handle([request])]

    def expire(self) -> None:
        """Let idle users leave the memory, and delete those whose time is over."""
        now = self._clock()
        for name, (_, last) in list(self._users.items()):
            if last > now - self._idle:
                break
            self._forget(name)
        if self.fault is not None:  # without requests, nothing else would find it mended
            self._store.probe()
            self.fault = None
        if math.isfinite(self._keep):
            with self._store.transaction():
                removed = self._store.remove_unseen_since(now - self._keep)
            for name in removed:
                self._forget(name)
            if removed:
                days = self._keep / 86400
                logger.info("%s users deleted after %g days without a decision", len(removed), days)

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def _transaction(self, requests: Sequence[Request]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        self._changed = {}
        try:
            with self._store.transaction():
                for batch in rounds(requests):
                    self._answer(batch, replies)
                self._store.write(
                    [(user, self._session.save(name)) for name, user in self._changed.items()]
                )
        except BaseException:
            for request in requests:
                self._forget(request.user)
            raise
        self.fault = None
        return [replies[index] for index in range(len(requests))]

    def _answer(self, batch: Batch, replies: dict[int, Reply]) -> None:
        """Answer requests of different users."""
        faults = self._require_in_memory([one.user for one in batch.values()])
        acts, observes = {}, {}
        for index, one in batch.items():
            fault = faults.get(one.user)
            try:
                if isinstance(one, Add):
                    replies[index] = self._add(one.user, fault)
                elif isinstance(one, Drop):
                    replies[index] = self._drop(one.user)
                elif fault is not None:
                    replies[index] = fault.reply
                elif isinstance(one, Show):
                    replies[index] = Reply(200, shown(self._users[one.user][0]))
                elif isinstance(one, Act):
                    acts[index] = one, observation_of(one, self._shape)
                else:
                    observes[index] = one, outcome_of(one, self._users[one.user][0])
            except RefusedError as refusal:
                replies[index] = refusal.reply
        self._observe(observes)
        self._act(acts)
        for index, (one, _) in (acts | observes).items():
            user = self._users[one.user][0]
            body = {"user": one.user, "decision": user.decision}
            if isinstance(one, Act):
                body |= {"action": user.action, "probability": user.probability}
            else:
                body["decision"] = one.decision
            replies[index] = Reply(200, body)

    def _act(self, asked: Mapping[int, tuple[Act, Any]]) -> None:
        """Decide for those who do not wait for a reward."""
        deciding = {
            one.user: observation
            for one, observation in asked.values()
            if not self._users[one.user][0].waits
        }
        if not deciding:
            return
        names = list(deciding)
        step = self._session.step(np.stack([deciding[name] for name in names]), names)
        probabilities = step.log_probability.exp().tolist()
        now = self._clock()
        for name, action, probability in zip(
            names, step.action.tolist(), probabilities, strict=True
        ):
            user = self._users[name][0]
            user.decisions += 1
            user.action, user.reward, user.seen = action, None, now
            user.probability = 1.0 if self._greedy else probability
            self._changed[name] = user

    def _observe(self, told: Mapping[int, tuple[Observe, tuple[float, bool] | None]]) -> None:
        """Let the agent see the outcomes that are new."""
        new = {one.user: outcome for one, outcome in told.values() if outcome is not None}
        if not new:
            return
        rewards, ends = zip(*new.values(), strict=True)
        self._session.observe(list(rewards), list(ends), list(new))
        now = self._clock()
        for name, (reward, _) in new.items():
            user = self._users[name][0]
            user.reward, user.seen = reward, now
            self._changed[name] = user

    def _add(self, name: str, fault: RefusedError | None) -> Reply:
        if fault is not None and fault.status != 404:
            return fault.reply
        if fault is None:
            return Reply(200, shown(self._users[name][0]))
        if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
            raise RefusedError(
                422,
                f"user {name[:LONGEST_NAME]!r}: a name is 1 to {LONGEST_NAME} printable characters",
            )
        now = self._clock()
        self._session.add(name)
        user = self._store.add(name, self._session.identity, now, self._session.save(name))
        self._users[name] = user, now
        return Reply(201, shown(user))

    def _drop(self, name: str) -> Reply:
        is_there = name.isprintable() and self._store.remove(name)
        self._changed.pop(name, None)
        self._forget(name)
        return Reply(200, {"user": name, "deleted": is_there})

    def _forget(self, name: str) -> None:
        """Let a user leave the memory."""
        self._users.pop(name, None)
        if name in self._session:
            self._session.drop(name)

    def _require_in_memory(self, names: Sequence[str]) -> dict[str, RefusedError]:
        """Read users from the database; why those who cannot be served cannot."""
        now = self._clock()
        for name in [one for one in names if one in self._users]:
            self._users[name] = self._users.pop(name)[0], now
        missing = [name for name in names if name not in self._users]
        found = self._store.find([name for name in missing if name.isprintable()])
        faults = {}
        for name in missing:
            if name not in found:
                line = f"user {name[:LONGEST_NAME]!r} is unknown: add it with PUT /v1/users/<name>"
                faults[name] = RefusedError(404, line)
                continue
            user, agent, memory = found[name]
            remedy = "serve the agent that made it"
            fault = "" if agent == self._session.identity else "it is of another agent"
            if not fault:
                try:
                    self._session.load(name, memory)
                    self._users[name] = user, now
                    continue
                except UserError as error:
                    logger.error("%s", error)
                    fault, remedy = "it is damaged", "restore a copy of the database"
            line = f"the memory of user {name!r} cannot be used ({fault}): {remedy}, or delete and "
            faults[name] = RefusedError(409, f"{line}add the user")
        return faults
