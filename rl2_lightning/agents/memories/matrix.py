"""A matrix memory: blocks of gated linear attention (arXiv 2312.06635) and feed-forward layers."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl2_lightning.agents.initialisation import initialise_linear
from rl2_lightning.agents.memories.linear_attention import (
    may_look_at,
    write_and_read,
    write_and_read_all,
)
from rl2_lightning.agents.memories.memory import Memory, State, shared_zeros
from rl2_lightning.agents.products import Linear
from rl2_lightning.errors import UserError
from rl2_lightning.settings import Settings, between, make_settings

LARGEST_DEFAULT_SIZE = 64
SHORTEST_TIMESCALE = 3.0  # env steps
SMALLEST_LENGTH = 0.01  # of a key before normalisation, to bound gradients


@dataclass
class MatrixSettings(Settings):
    """Settings of a matrix memory.

    Attributes:
        hidden_size: H, width of the features and of the residual stream.
        num_layers: number of stacked blocks; with 0 there is no memory except that of an agent's
            action queries.
        num_heads: number of matrices into which a block's memory is divided.
        matrix_size: M, width of keys and values, which the heads share; None for `hidden_size`, but
            64 at most.
        feed_forward_factor: width of the layer within a block, in units of M.
        max_timescale: initial time scale of the first head, in env steps; each other head starts
            with half of the one before (arXiv 2307.08621). Training changes them.
    """

    hidden_size: int = between(1, default=64)
    num_layers: int = between(0, 100, default=2)
    num_heads: int = between(1, default=1)
    matrix_size: int | None = between(1, default=None)
    feed_forward_factor: int = between(1, 100, default=2)
    max_timescale: int = between(3, default=100)

    @property
    def shared_size(self) -> int:
        """M, width of keys and values."""
        return self.matrix_size or min(self.hidden_size, LARGEST_DEFAULT_SIZE)

    def check(self) -> None:
        """Check that the heads divide the width.

        Raises:
            UserError: they do not.
        """
        size, heads = self.shared_size, self.num_heads
        if size % heads:
            nearest = max(1, round(size / heads)) * heads
            is_given = self.matrix_size is not None or self.hidden_size > size
            name = "memory.matrix_size" if is_given else "memory.hidden_size"
            raise UserError(
                f"{name}={size} does not divide into memory.num_heads={heads}: set {name}={nearest}"
            )


class MatrixMemory(Memory):
    """A memory whose state is matrices: `[B, num_heads, D, D]` per layer, D = M / num_heads.

    A vector has to store everything in its H numbers; a matrix stores values at as many keys as it
    is wide. The unroll is parallel over time.

    Args:
        input_size: I, width of the encoding.
        **settings: fields of `MatrixSettings`.
    """

    Settings = MatrixSettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.settings = make_settings(MatrixSettings, settings, "memory")
        self.output_size = self.settings.hidden_size
        self.input = Linear(input_size, self.output_size)
        initialise_linear(self.input, gain=1.0)
        self.blocks = nn.ModuleList(Block(self.settings) for _ in range(self.settings.num_layers))

    def initial_state(self, num: int) -> State:
        """Zeros; see `Memory.initial_state`."""
        heads = self.settings.num_heads
        size = self.settings.shared_size // heads
        device = self.input.weight.device
        return tuple(shared_zeros(num, heads, size, size, device=device) for _ in self.blocks)

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        features, state = self.unroll_trial(encoding.unsqueeze(1), state)
        return features.squeeze(1), state

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        features, reached = self.input(encoding).to(encoding.dtype), []
        is_finite = is_known_to_be_finite(features)
        for block, before in zip(self.blocks, state, strict=True):
            features, after = block(features, before, is_finite)
            reached.append(after)
        return features, tuple(reached)


class Block(nn.Module):
    """Linear attention, which writes to and reads from a matrix, and a feed-forward layer.

    Both are residual. Keys have length 1, so that writes are bounded. Because of the SiLU their
    components are almost non-negative, and keys of different things can still be nearly orthogonal.
    The length of a query does not matter, since reads are normalised.

    Args:
        settings: settings of the memory.
    """

    def __init__(self, settings: MatrixSettings) -> None:
        super().__init__()
        width, size = settings.hidden_size, settings.shared_size
        inner = settings.feed_forward_factor * size
        self._size, self._num_heads = size, settings.num_heads
        self.norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read_norm = nn.LayerNorm(size // settings.num_heads)
        self.project = Linear(width, 4 * size, bias=False)  # query, key, gate, value
        self.output = Linear(size, width, bias=False)
        self.feed_forward = nn.Sequential(Linear(width, inner), nn.SiLU(), Linear(inner, width))
        initialise_linear(self, gain=1.0)
        # The decay is its sigmoid: 1 - 1 / timescale.
        timescales = (settings.max_timescale / 2**head for head in range(self._num_heads))
        logits = [math.log(max(one, SHORTEST_TIMESCALE) - 1) for one in timescales]
        self.decay = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor, state: Tensor, is_finite: bool) -> tuple[Tensor, Tensor]:
        """Process a window.

        Args:
            x: `[B, T, H]`, float.
            state: the matrices before the first step, `[B, num_heads, D, D]`, float32.
            is_finite: whether `x` is known to be finite.

        Returns:
            The output of each step, `[B, T, H]`, and the matrices after the last one.
        """
        active, value = self.project(self.norm(x)).split((3 * self._size, self._size), dim=-1)
        query, key, gate = functional.silu(active).chunk(3, dim=-1)
        query, key, value = (self._by_head(part) for part in (query, key, value))
        length = torch.linalg.vector_norm(key, dim=-1, keepdim=True)
        key = key / length.clamp(min=SMALLEST_LENGTH)
        if not is_finite:
            # A NaN in a later, idle step would spread to those before it, even with weight zero.
            key, value = (torch.where(part.isfinite(), part, 0.0) for part in (key, value))
        with torch.autocast(x.device.type, enabled=False):
            # Sums over a whole trial need full precision.
            query, key, value = (part.to(state.dtype) for part in (query, key, value))
            log_decay = functional.logsigmoid(self.decay)
            if x.shape[1] == 1:
                query, key, value = (part.squeeze(2) for part in (query, key, value))
                read, state = write_and_read(query, key, value, log_decay, state)
                read = read.unsqueeze(2)
            else:
                read, state = write_and_read_all(query, key, value, log_decay, state)
        read = self.read_norm(read.transpose(1, 2)).flatten(2)
        x = x + self.output(read * gate)
        return x + self.feed_forward(self.feed_forward_norm(x)), state

    def _by_head(self, part: Tensor) -> Tensor:
        """Split `[B, T, M]` into heads, `[B, num_heads, T, D]`."""
        return part.unflatten(-1, (self._num_heads, -1)).transpose(1, 2)


def is_known_to_be_finite(x: Tensor) -> bool:
    """Whether all numbers are known to be finite; only checked on a CPU."""
    return may_look_at(x) and bool(x.detach().sum().isfinite())
