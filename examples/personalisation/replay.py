"""Replay what clients were told, and compare it with what the database has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from examples.personalisation.store import Store
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import State
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs

TOLERANCE = 1e-4  # of the largest number: batches of other sizes are rounded otherwise
PROBE_REWARD = 0.5


@dataclass
class Replayed:
    """A user of a bandit, as the agent alone would have it: no session, no service.

    Attributes:
        inputs: what the agent sees next, or has seen at the decision whose reward is awaited.
        state: the memory.
        decisions: acknowledged decisions.
        action: the action of the last one.
        decision: its id.
        reward: its reward; None while it is awaited.
    """

    inputs: Inputs
    state: State
    decisions: int = 0
    action: int | None = None
    decision: str | None = None
    reward: float | None = None

    @property
    def waits(self) -> bool:
        """Whether the reward of the last decision is awaited."""
        return self.decisions > 0 and self.reward is None


class Replay:
    """Steps an agent through acknowledged decisions and rewards, one user at a time.

    Args:
        agent: the agent of the service.

    Attributes:
        users: those who were added and not deleted.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._shown = torch.ones(1, 1)
        self.users: dict[str, Replayed] = {}

    def add(self, name: str) -> None:
        """A user was added."""
        inputs = self._agent.first_inputs(self._shown)
        self.users[name] = Replayed(inputs, self._agent.initial_state(1))

    def act(self, name: str, decision: str, action: int) -> None:
        """A decision was made."""
        user = self.users[name]
        user.state = self._agent.act(user.inputs, user.state, greedy=True).state
        user.decisions += 1
        user.decision, user.action, user.reward = decision, action, None

    def observe(self, name: str, reward: float) -> None:
        """The reward of the last decision was taken."""
        user = self.users[name]
        user.inputs = self._after(user, reward)
        user.reward = reward

    def differences(self, path: Path, in_doubt: Mapping[str, str]) -> list[str]:
        """What a database has otherwise than the replay, one line each.

        Of two memories that agree, the agent makes the same step: all that it would compute next is
        compared, after a reward for those who wait for one.

        Args:
            path: a database that no service has open.
            in_doubt: the kinds of requests that were not acknowledged, by user: "add", "drop",
                "act" or "observe"; each of them may have been done.
        """
        store = Store(path)
        try:
            found = store.find(list(self.users))
            (total, _) = store.count(b"")
        finally:
            store.close()
        lost = [name for name in self.users if name not in found and in_doubt.get(name) != "drop"]
        told = [f"{name} is lost" for name in lost]
        unknown = total - len(found)
        if unknown > list(in_doubt.values()).count("add"):
            told.append(f"{unknown} users are in the database who were deleted")
        certain = [name for name in found if name not in in_doubt]
        for name in certain:
            user, row = self.users[name], found[name][0]
            expected = (user.decisions, user.action, user.reward)
            if (row.decisions, row.action, row.reward) != expected:
                told.append(f"{name} has {row}, and was told {expected}")
        if not told and certain:
            told += self._steps_that_differ(certain, [found[name][2] for name in certain])
        return told

    def _steps_that_differ(self, names: Sequence[str], memories: Sequence[bytes]) -> list[str]:
        session = self._agent.session(greedy=True)
        told = []
        for name, memory in zip(names, memories, strict=True):
            try:
                session.load(name, memory)
                if self.users[name].waits:
                    session.observe([PROBE_REWARD], [True], [name])
            except UserError as error:
                told.append(f"the memory of {name} cannot be used: {error}")
        if told:
            return told
        stored = session.step(self._shown.expand(len(names), 1), names)
        users = [self.users[name] for name in names]
        inputs = [self._after(one, PROBE_REWARD) if one.waits else one.inputs for one in users]
        replayed = self._agent.act(
            Inputs(*(_rows(column) for column in zip(*inputs, strict=True))),
            tuple(map(_rows, zip(*(one.state for one in users), strict=True))),
            greedy=True,
        )
        pairs = [(stored.features, replayed.features)]
        pairs += zip(stored.state, replayed.state, strict=True)
        for row, name in enumerate(names):
            distance = max(_distance(one[row], other[row]) for one, other in pairs)
            if not distance <= TOLERANCE:
                told.append(f"the memory of {name} differs by {distance:.1e}")
        return told

    def _after(self, user: Replayed, reward: float) -> Inputs:
        """The inputs of the decision after the last one."""
        assert user.action is not None
        return self._agent.next_inputs(
            user.inputs,
            torch.tensor([user.action]),
            self._shown,
            torch.tensor([reward]),
            torch.ones(1, dtype=torch.bool),
        )


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors))


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest number or to 1."""
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))
