"""A matrix memory that is written at the action taken and queried once for each action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl2_lightning.agents.initialisation import (
    OUTPUT_GAIN,
    fully_connected,
    initialise_linear,
)
from rl2_lightning.agents.memories.linear_attention import write_and_read_all
from rl2_lightning.agents.memories.matrix import is_known_to_be_finite
from rl2_lightning.agents.memories.memory import Memory, State, shared_zeros
from rl2_lightning.agents.products import Linear
from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.errors import UserError

KEY_SEED = 20210610  # of drawn keys, so that they are the same in every agent
SMALLEST_LENGTH = 0.01  # of a key before normalisation, to bound gradients


class ActionMemory(Memory):
    """A memory and, beside it, a matrix with a key for each action.

    A step writes a value computed from its encoding at the key of the previous action, S <- S + k
    v^T, and then reads the matrix once for each action, Y_a = k_a S (the linear attention of arXiv
    2006.16236 with given keys). Reads grow with the number of writes, and are compressed by sign(Y)
    log(1 + |Y|).

    If keys depend on observations, an action's key in an observation is the outer product of both
    keys. The products of such keys are the products of their parts, so that what was written in
    other observations, or with other actions, is not read if their keys are orthogonal.

    The features are those of the inner memory, a summary of the reads (their mean, their maximum
    and their compressed sum), and then the reads of all actions, V numbers each. The state is that
    of the inner memory and the matrix, `[B, K, V]`, or `[B, F, K, V]` with keys of observations.

    Args:
        sizes: widths of the parts of its input: the encoding, E, the previous action as one-hot, A,
            and, if keys depend on observations, the previous and the current one, O each.
        make_inner: builds the inner memory for an input width.
        settings: settings of the agent.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        make_inner: Callable[[int], Memory],
        settings: AgentSettings,
    ) -> None:
        super().__init__()
        queries = settings.action_queries
        self._sizes = list(sizes)
        encoding_size, num_actions, *of_observations = sizes
        key_size, value_size = queries.key_size, queries.value_size
        self._gives_key = "previous_action" in settings.inputs
        self.inner = make_inner(encoding_size + key_size * self._gives_key)
        keys = drawn_keys(num_actions, key_size)
        if queries.keys == "learned":
            self.keys = nn.Parameter(keys)
        else:
            # Not part of a checkpoint: the weights work with any number of actions.
            self.register_buffer("keys", keys, persistent=False)
        self.observation_key = None
        if of_observations:
            self.observation_key = Linear(of_observations[0], queries.observation_key_size)
            initialise_linear(self.observation_key, gain=1.0)
        self.value = Linear(encoding_size, value_size)
        initialise_linear(self.value, gain=1.0)
        self.output_size = self.summary_size + num_actions * value_size

    @property
    def summary_size(self) -> int:
        """See `Memory.summary_size`."""
        return self.inner.output_size + 3 * self.value.out_features

    def initial_state(self, num: int) -> State:
        """The inner memory's initial state and zeros; see `Memory.initial_state`."""
        shape = [self.keys.shape[1], self.value.out_features]
        if self.observation_key is not None:
            shape.insert(0, self.observation_key.out_features)
        matrix = shared_zeros(num, *shape, device=self.value.weight.device)
        return (*self.inner.initial_state(num), matrix)

    def with_noise(self, state: State, generator: torch.Generator) -> State:
        """See `Memory.with_noise`."""
        return (*self.inner.with_noise(state[:-1], generator), state[-1])

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        given, written = self._split(encoding)
        features, inner = self.inner.step(given, state[:-1])
        asked, matrix = self._ask([part.unsqueeze(1) for part in written], state[-1])
        return torch.cat([features, asked.squeeze(1)], dim=-1), (*inner, matrix)

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        given, written = self._split(encoding)
        features, inner = self.inner.unroll_trial(given, state[:-1])
        asked, matrix = self._ask(written, state[-1])
        return torch.cat([features, asked], dim=-1), (*inner, matrix)

    def require_steps(self, num_steps: int) -> None:
        """See `Memory.require_steps`."""
        self.inner.require_steps(num_steps)

    def _split(self, encoding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The inner memory's input, and what is written: key, value and, if used, observations."""
        own, action, *observations = encoding.split(self._sizes, dim=-1)
        key = action @ self._all_keys()  # zero where no action was taken
        given = torch.cat([own, key], dim=-1) if self._gives_key else own
        written = [key, self.value(own)]
        if self.observation_key is not None:
            written += [_of_length_one(self.observation_key(one)) for one in observations]
        return given, written

    def _all_keys(self) -> Tensor:
        """The keys of all actions, independent of observations, `[A, K]`."""
        return functional.normalize(self.keys, dim=-1, eps=SMALLEST_LENGTH)

    def _ask(self, written: Sequence[Tensor], matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Write into the matrix and query it, at all steps of a window.

        Args:
            written: keys of actions, `[B, T, K]`, values, `[B, T, V]`, and, if keys depend on
                observations, the keys of the previous and of the current one, `[B, T, F]`.
            matrix: the matrix before the first step, `[B, K, V]` or `[B, F, K, V]`.

        Returns:
            Summary and reads, `[B, T, 3 V + A V]`, and the matrix after the last step.
        """
        with torch.autocast(matrix.device.type, enabled=False):
            # Sums over a whole trial need full precision.
            keys, key, value, *observed = (
                part.to(matrix.dtype) for part in (self._all_keys(), *written)
            )
            if observed:
                before, now = observed
                reads, matrix = _read_all(key, value, before, now, matrix)
                reads = keys @ reads
            else:
                # The weight of each write in each read, so that no matrix per step is needed.
                shares = (key @ keys.mT).unsqueeze(-1)
                reads = (keys @ matrix).unsqueeze(1) + (shares * value.unsqueeze(-2)).cumsum(1)
                matrix = matrix + key.mT @ value
            total = _squeeze(reads.sum(dim=-2))
            reads = _squeeze(reads)
            summary = [reads.mean(dim=-2), reads.amax(dim=-2), total]
            return torch.cat([*summary, reads.flatten(-2)], dim=-1), matrix


class ActionScorer(nn.Module):
    """Scores each action by its read, with layers shared by all actions.

    Args:
        summary_size: S, width of the features that are not reads.
        value_size: V, width of a read.
        hidden_sizes: widths of the hidden layers.

    Raises:
        UserError: there is no hidden layer; a linear score could not combine summary and read.
    """

    def __init__(self, summary_size: int, value_size: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        if not hidden_sizes:
            raise UserError(
                "agent.policy_head=action_queries with agent.policy_hidden_sizes=[]: give the "
                "scores a layer, agent.policy_hidden_sizes=[64]"
            )
        self._summary_size, self._value_size = summary_size, value_size
        first, *rest = hidden_sizes
        self.of_summary = Linear(summary_size, first)
        self.of_read = Linear(value_size, first, bias=False)
        initialise_linear(self, gain=2**0.5)
        score = Linear(hidden_sizes[-1], 1, bias=False)  # a shared bias has no effect
        initialise_linear(score, gain=OUTPUT_GAIN)
        self.layers = nn.Sequential(nn.ReLU(), *fully_connected(first, rest), score)

    def forward(self, features: Tensor) -> Tensor:
        """The logits, `[..., A]`, of features `[..., S + A V]`."""
        reads_size = features.shape[-1] - self._summary_size
        summary, reads = features.split((self._summary_size, reads_size), dim=-1)
        of_reads = self.of_read(reads.unflatten(-1, (-1, self._value_size)))
        terms = of_reads + self.of_summary(summary).unsqueeze(-2)
        return cast(Tensor, self.layers(terms).squeeze(-1))


def drawn_keys(num_actions: int, size: int) -> Tensor:
    """The fixed unit-length keys of actions, `[num_actions, size]`, float32.

    The first keys are the same for any number of actions. Each block of `size` keys is orthogonal;
    across blocks they are nearly so.
    """
    keys = torch.empty(num_actions, size)
    if keys.is_meta:
        return keys
    generator = torch.Generator().manual_seed(KEY_SEED)
    for start in range(0, num_actions, size):
        block = nn.init.orthogonal_(torch.empty(size, size), generator=generator)
        keys[start : start + size] = block[: num_actions - start]
    return keys


def _read_all(
    key: Tensor, value: Tensor, before: Tensor, now: Tensor, matrix: Tensor
) -> tuple[Tensor, Tensor]:
    """What was written at the key of the present observation, at all steps of a window.

    Args:
        key: keys of the previous actions, `[B, T, K]`.
        value: what is written, `[B, T, V]`.
        before: keys of the observations in which these actions were taken, `[B, T, F]`.
        now: keys of the present observations, `[B, T, F]`.
        matrix: the matrix before the first step, `[B, F, K, V]`.

    Returns:
        The reads, `[B, T, K, V]`, and the matrix after the last step.
    """
    entries = (key.unsqueeze(-1) * value.unsqueeze(-2)).flatten(-2)
    if not (is_known_to_be_finite(entries) and is_known_to_be_finite(before)):
        # A NaN in a later, idle step would spread to those before it, even with weight zero.
        entries, before = (torch.where(one.isfinite(), one, 0.0) for one in (entries, before))
    reads, after = write_and_read_all(
        now.unsqueeze(1),
        before.unsqueeze(1),
        entries.unsqueeze(1),
        entries.new_zeros(1),  # no decay
        matrix.flatten(-2).unsqueeze(1),
    )
    sizes = matrix.shape[-2:]
    return reads.squeeze(1).unflatten(-1, sizes), after.squeeze(1).unflatten(-1, sizes)


def _of_length_one(vectors: Tensor) -> Tensor:
    """Vectors divided by their lengths; with second derivatives at zero, too."""
    squares = vectors.square().sum(dim=-1, keepdim=True)
    return vectors * (squares + SMALLEST_LENGTH**2).rsqrt()


def _squeeze(sums: Tensor) -> Tensor:
    return sums.sign() * sums.abs().log1p()
