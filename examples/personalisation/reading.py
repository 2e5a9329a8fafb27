"""Read the requests of clients, in which anything may stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from examples.personalisation.messages import Act, Observe, RefusedError, Request
from examples.personalisation.store import User

LARGEST_REWARD = 1e30  # magnitude; within float32


def observation_of(act: Act, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """What a user shows, float32.

    Args:
        act: the request.
        shape: the shape that the agent needs; of shape [1], nothing stands for the 1 of a bandit.

    Raises:
        RefusedError: it has another shape, or is not finite.
    """
    if act.observation is None and shape == (1,):
        return np.ones(1, np.float32)
    try:
        given = np.asarray(act.observation)
    except ValueError:
        given = np.asarray("ragged lists")
    if given.dtype.kind not in "biuf" or given.shape != shape:
        told = f"shape {list(given.shape)}" if given.dtype.kind in "biuf" else "no numbers"
        raise RefusedError(
            422,
            f"the observation of user {act.user!r} has {told}: give numbers of shape {list(shape)}",
        )
    with np.errstate(over="ignore"):
        numbers = given.astype(np.float32)
    if not np.isfinite(numbers).all():
        line = f"the observation of user {act.user!r} is not finite: fix its source"
        raise RefusedError(422, line)
    return numbers


def outcome_of(told: Observe, user: User) -> tuple[float, bool] | None:
    """The reward and the end of an episode; None if they were told before.

    Raises:
        RefusedError: the user has no such decision, or it has had another reward.
    """
    reward, number = told.reward, _number_of(told.decision, user)
    if not isinstance(reward, int | float) or not abs(reward) <= LARGEST_REWARD:
        raise RefusedError(
            422, f"the reward of user {told.user!r} is {reward!r:.50}: give a finite number"
        )
    if not isinstance(told.done, bool):
        raise RefusedError(
            422, f"done of user {told.user!r} is {told.done!r:.50}: give true or false"
        )
    if number == user.decisions and user.waits:
        return float(reward), told.done
    if number == user.decisions and user.reward != reward:
        raise RefusedError(
            409,
            f"decision {told.decision} of user {told.user!r} has had the reward "
            f"{user.reward:g}, and not {reward:g}: the first one counts",
        )
    return None


def _number_of(decision: Any, user: User) -> int:
    """Which of the user's decisions has an id.

    Raises:
        RefusedError: none has it.
    """
    number, _, count = str(decision).partition("-")
    if not (number.isdecimal() and count.isdecimal()):
        raise RefusedError(
            422, f"decision {decision!r:.50} is no id: give that of the answer to act"
        )
    if int(number) != user.id or not 1 <= int(count) <= user.decisions:
        raise RefusedError(
            409, f"user {user.name!r} has no decision {decision:.50}: observe what act has returned"
        )
    return int(count)


def shown(user: User) -> dict[str, Any]:
    """What a client is told of a user."""
    awaited = {
        "decision": user.decision,
        "action": user.action,
        "probability": user.probability,
    }
    return {
        "user": user.name,
        "decisions": user.decisions,
        "awaited": awaited if user.waits else None,
        "changed": round(user.seen, 3),
    }


def rounds(requests: Sequence[Request]) -> list[dict[int, Request]]:
    """Requests in groups without a user twice, by their place; a user's own keep their order."""
    found: list[dict[int, Request]] = []
    counts: Counter[str] = Counter()
    for index, one in enumerate(requests):
        if counts[one.user] == len(found):
            found.append({})
        found[counts[one.user]][index] = one
        counts[one.user] += 1
    return found
