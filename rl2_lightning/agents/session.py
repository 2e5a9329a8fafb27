"""Use an agent for many users, each with a memory of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rl2_lightning.agents.memories.memory import State
from rl2_lightning.agents.observations import (
    ObservationForm,
    User,
    as_tensor,
    listed,
    require_each,
    require_hashable,
)
from rl2_lightning.agents.spaces import Box, Discrete
from rl2_lightning.agents.user_rows import UserRows, identity_of, sealed, unsealed
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs

if TYPE_CHECKING:
    from rl2_lightning.agents.agent import Agent, Step

WRITE_AT_ONCE = 1024  # new users
# What is kept of a user beside the tensors of the memory's state.
STATE, ACTION, REWARD, DONE, BEFORE, WAITS = (
    *("state_", "previous_action", "previous_reward", "previous_done"),
    *("previous_observation", "waits_for_reward"),
)


class Session:
    """Users whom an agent acts for; `Agent.session` makes one.

    Each user has a task, and the agent a memory of it, which begins empty. Users act one at a time,
    together, or in any groups. After `act`, a user's reward is observed before the user acts again.

    A call that is refused changes nothing: the other users are served on, and so is the user with
    the mistake. A session is for one thread at a time.

    Args:
        agent: the agent, which is used without a copy.
        num_users: number of users at first, called 0, 1, ...
        greedy: whether to take the most likely actions instead of sampling.
        seed: seed of the samples; None for a new one in each session.
    """

    def __init__(self, agent: Agent, num_users: int, *, greedy: bool, seed: int | None) -> None:
        self._agent = agent
        self._greedy = greedy
        self._device = next(agent.parameters()).device
        self._generator = torch.Generator(self._device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)
        self._identity = identity_of(agent.spec.to_plain(), agent)
        self._form = ObservationForm(agent.spec.observations, self._device)
        # Of what the agent does not see, nothing is kept.
        self._keeps_observation = "previous_observation" in agent.encoder.fields
        first = self._first(1, None)
        self._states = [name for name in first if name.startswith(STATE)]
        self._rows = UserRows(first)
        self._row_of: dict[User, int] = {}
        self._free: list[int] = []
        self._add(range(num_users))

    @property
    def identity(self) -> bytes:
        """A digest of the agent's spec and weights, 16 bytes; `load` takes memories with it."""
        return self._identity

    @property
    def users(self) -> list[User]:
        """The users, in the order in which they came."""
        return list(self._row_of)

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, user: User) -> bool:
        return user in self._row_of

    def add(self, user: User) -> None:
        """Add a user, with an empty memory.

        Raises:
            UserError: the session has the user already, or it cannot be a key of a dictionary.
        """
        require_hashable([user])
        if user in self._row_of:
            raise UserError(f"user {user!r} is in the session already: drop it to start anew")
        self._add([user])

    def drop(self, user: User) -> None:
        """Forget a user.

        Raises:
            UserError: there is no such user.
        """
        (row,) = self._indices([user])
        del self._row_of[user]
        self._free.append(row)

    def act(self, observation: Any, users: Sequence[User] | None = None) -> Tensor:
        """Choose an action for each user.

        Args:
            observation: what they see, `[B, *observation]`: a tensor, an array or lists; or, if the
                agent sees several things, a dictionary of these. After the end of an episode it is
                the first observation of the next one.
            users: the users, B; None for all of them, in the order of `users`.

        Returns:
            The actions, `[B]`, int64, or `[B, A]`, int64 or float32.

        Raises:
            UserError: an observation has another shape or is not finite, a user is unknown, or
                waits for a reward.
        """
        return self.step(observation, users).action

    def step(self, observation: Any, users: Sequence[User] | None = None) -> Step:
        """Like `act`, with everything that the agent's step returns, B rows each.

        With `log_probability` the choices can be logged for an evaluation of other policies.

        Raises:
            UserError: see `act`.
        """
        chosen = self.users if users is None else listed(users)
        rows = self._tensor_of(chosen)
        shown = self._form.read(observation, chosen)
        self._require_waiting(False, rows, chosen)
        columns = self._rows.columns
        before = self._form.split(columns[BEFORE][rows]) if self._keeps_observation else shown
        step = self._agent.act(
            Inputs(
                shown, columns[ACTION][rows], columns[REWARD][rows], columns[DONE][rows], before
            ),
            tuple(columns[name][rows] for name in self._states),
            greedy=self._greedy,
            generator=self._generator,
        )
        fault = "has an observation that is too large for this agent: check its unit"
        require_each(step.log_probability.isfinite(), chosen, fault)
        reached = dict(zip(self._states, step.state, strict=True)) | {ACTION: step.action}
        if self._keeps_observation:
            reached[BEFORE] = self._form.joined(shown)
        self._rows.write(rows, reached | {WAITS: self._true(len(rows))})
        return step

    def observe(self, reward: Any, done: Any, users: Sequence[User] | None = None) -> None:
        """Observe what the last actions have led to.

        Args:
            reward: `[B]` or `[B, 1]`.
            done: whether an episode has ended, `[B]` or `[B, 1]`, bool.
            users: the users, B; None for all of them.

        Raises:
            UserError: a shape is another one, a reward is not finite, `done` is neither true nor
                false, a user is unknown, or has not acted since its last reward.
        """
        chosen = self.users if users is None else listed(users)
        rows = self._tensor_of(chosen)
        earned = self._column(reward, "reward", len(chosen)).float()
        ended = self._column(done, "done", len(chosen))
        fault = "has a done that is neither true nor false"
        require_each((ended == 0) | (ended == 1), chosen, fault)
        require_each(earned.isfinite(), chosen, "has a reward that is not finite: fix its source")
        self._require_waiting(True, rows, chosen)
        waits = ~self._true(len(rows))
        self._rows.write(rows, {REWARD: earned, DONE: ended.float(), WAITS: waits})

    def save(self, user: User) -> bytes:
        """A user's memory, and everything else that the agent needs to go on with it.

        It has a version and the identity of the agent, which depends on its weights.

        Raises:
            UserError: there is no such user.
        """
        (row,) = self._indices([user])
        return sealed(self._rows.read_bytes(row), self._identity)

    def load(self, user: User, data: bytes) -> None:
        """Restore a user's memory, and add the user unless the session has it.

        Nothing in the bytes is executed. They are checked before anything is changed.

        Args:
            user: the user.
            data: what `save` has returned.

        Raises:
            UserError: they are something else, damaged, or of another version or agent.
        """
        require_hashable([user])
        row = unsealed(data, self._identity, self._rows.size, f"user {user!r}")
        self._require_usable(row, user)
        if user not in self._row_of:
            self._add([user])
        self._rows.write_bytes(self._row_of[user], row)

    def _first(self, num: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        """What is kept of new users, `[num, ...]` each: all that a step needs beside their view.

        Args:
            num: number of users.
            generator: source of the noise of a belief's samples; None for none.
        """
        inputs = self._agent.first_inputs(self._form.zeros(num))
        state = self._agent.initial_state(num, generator)
        first = {f"{STATE}{number}": tensor for number, tensor in enumerate(state)}
        first |= {
            ACTION: inputs.previous_action,
            REWARD: inputs.previous_reward,
            DONE: inputs.previous_done,
            WAITS: ~self._true(num),
        }
        if self._keeps_observation:
            first[BEFORE] = self._form.joined(inputs.previous_observation)
        return first

    def _true(self, num: int) -> Tensor:
        return torch.ones(num, 1, dtype=torch.bool, device=self._device)

    def _add(self, users: Sequence[User]) -> None:
        for start in range(0, len(users), WRITE_AT_ONCE):
            new = users[start : start + WRITE_AT_ONCE]
            rows = [self._free.pop() for _ in new[: len(self._free)]]
            end = len(self._row_of) + len(rows)
            rows += range(end, end + len(new) - len(rows))
            self._rows.require_capacity(max(rows) + 1)
            self._row_of.update(zip(new, rows, strict=True))
            first = self._first(len(new), None if self._greedy else self._generator)
            self._rows.write(torch.tensor(rows, device=self._device), first)

    def _indices(self, users: Sequence[User]) -> list[int]:
        try:
            rows = [self._row_of.get(user, -1) for user in users]
        except TypeError:  # found so, it costs nothing where all is well
            require_hashable(users)
            raise
        if -1 in rows:
            unknown = users[rows.index(-1)]
            raise UserError(f"user {unknown!r} is not in the session: add it, or load its memory")
        return rows

    def _tensor_of(self, users: Sequence[User]) -> Tensor:
        """The rows of users who act or observe together."""
        rows = self._indices(users)
        if not rows:
            raise UserError("there is no user: add one")
        if len(set(rows)) < len(rows):
            twice = next(user for user in users if users.count(user) > 1)
            raise UserError(f"user {twice!r} is named twice in a call: name it once")
        return torch.tensor(rows, device=self._device)

    def _column(self, value: Any, name: str, num: int) -> Tensor:
        tensor = as_tensor(name, value, self._device)
        if list(tensor.shape) not in ([num], [num, 1]):
            raise UserError(
                f"{name} has shape {list(tensor.shape)}, and there are {num} user(s): give one "
                "number for each"
            )
        return tensor.reshape(num, 1)

    def _require_waiting(self, waiting: bool, rows: Tensor, users: Sequence[User]) -> None:
        """Check that all users wait for a reward, or that none does."""
        waits = self._rows.columns[WAITS][rows]
        if waiting:
            require_each(waits, users, "has not acted since its last reward: call act")
        else:
            fault = "has not observed the reward of its last action: call observe"
            require_each(~waits, users, fault)

    def _require_usable(self, row: bytes, user: User) -> None:
        """Check that a restored row cannot stop a batch: a checksum does not prove who wrote it."""
        tensors = self._rows.tensors_of(row)
        state = tuple(tensors[name] for name in self._states)
        are_finite = all(
            one.isfinite().all() for one in tensors.values() if one.is_floating_point()
        )
        are_counts = all((one >= 0).all() for one in state if one.dtype == torch.int64)
        if are_finite and are_counts and self._is_action(tensors[ACTION]) and self._goes_on(state):
            return
        raise UserError(
            f"the bytes given for user {user!r} hold numbers that no memory of this agent has: use "
            "another copy, or start the user anew"
        )

    def _is_action(self, action: Tensor) -> bool:
        """Whether it is an action or the placeholder of none."""
        space = self._agent.spec.actions
        if isinstance(space, Box):
            return bool(action.isfinite().all())
        most = [space.n] if isinstance(space, Discrete) else list(space.nvec)
        limits = torch.tensor(most, device=action.device)
        return bool(((action >= 0) & (action <= limits)).all())

    def _goes_on(self, state: State) -> bool:
        """Whether the memory can make a step from it, which is played alone and not kept."""
        nothing = torch.zeros(1, self._agent.encoder.output_size, device=self._device)
        try:
            with torch.no_grad():
                features, _ = self._agent.memory.step(nothing, state)
        except (IndexError, RuntimeError):
            return False
        return bool(features.isfinite().all())
