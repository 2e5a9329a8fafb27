"""A gated transformer over the last steps (GTrXL, arXiv 1910.06764), with rotary positions."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import initialise_linear, initialise_parts
from rl2_lightning.agents.memories.cache import attend, extend, longest_past, seen_steps
from rl2_lightning.agents.memories.memory import Memory, State, shared_zeros
from rl2_lightning.agents.products import Linear
from rl2_lightning.errors import UserError
from rl2_lightning.settings import Settings, between, make_settings

LONGEST_WAVE = 10_000.0  # longest wavelength of the rotary positions, in steps over 2 pi


@dataclass
class GatedTransformerSettings(Settings):
    """Settings of a gated transformer.

    Attributes:
        hidden_size: H, width of the residual stream.
        num_layers: number of layers, each with attention and a feed-forward network.
        num_heads: number of attention heads.
        context: L, number of env steps that the attention sees, including the current one.
    """

    hidden_size: int = between(1, default=64)
    num_layers: int = between(1, 100, default=2)
    num_heads: int = between(1, default=4)
    context: int = between(2, default=100)

    def check(self) -> None:
        """See `Settings.check`; rotary positions need an even width of a head."""
        if self.hidden_size % (2 * self.num_heads):
            width = 2 * max(1, round(self.hidden_size / (2 * self.num_heads)))
            raise UserError(
                f"memory.hidden_size={self.hidden_size} does not divide into "
                f"memory.num_heads={self.num_heads} of an even width: set "
                f"memory.hidden_size={width * self.num_heads}"
            )


class GatedTransformer(Memory):
    """Layers of attention over the last L steps; each layer forgets earlier ones.

    The state is a count of steps, `[B, 1]`, int64, and for each layer the keys, rotated by their
    positions, and the values of the last L steps, `[B, L, heads, H / heads]` each.

    Args:
        input_size: I, width of the encoding.
        **settings: fields of `GatedTransformerSettings`.
    """

    Settings = GatedTransformerSettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.settings = make_settings(GatedTransformerSettings, settings, "memory")
        self.output_size = self.settings.hidden_size
        self.first = Linear(input_size, self.output_size)
        initialise_linear(self.first, gain=1.0)
        self.layers = nn.ModuleList(
            _Layer(self.output_size, self.settings.num_heads)
            for _ in range(self.settings.num_layers)
        )

    def initial_state(self, num: int) -> State:
        """A state without steps; see `Memory.initial_state`."""
        device, num_heads = self.first.weight.device, self.settings.num_heads
        shape = self.settings.context, num_heads, self.output_size // num_heads
        count = shared_zeros(num, 1, device=device, dtype=torch.int64)
        num_caches = 2 * len(self.layers)
        return count, *(shared_zeros(num, *shape, device=device) for _ in range(num_caches))

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        features, state = self._advance(encoding.unsqueeze(1), state, self.settings.context - 1)
        return features.squeeze(1), state

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        return self._advance(encoding, state, longest_past(state[0], self.settings.context - 1))

    def _advance(self, encoding: Tensor, state: State, num_past: int) -> tuple[Tensor, State]:
        """Compute the steps of a window, which attend to `num_past` steps before it."""
        (count, *caches), num_steps = state, encoding.shape[1]
        seen = seen_steps(count, num_past, num_steps, self.settings.context)
        places = count + torch.arange(num_steps, device=count.device)
        rotation = rotations(places, self.output_size // self.settings.num_heads)
        # The residual stream is float32, also under autocast.
        stream, reached = self.first(encoding).to(encoding.dtype), [count + num_steps]
        for keys, values, layer in zip(caches[::2], caches[1::2], self.layers, strict=True):
            query, new_keys, new_values = cast(_Layer, layer).project(stream, rotation)
            all_keys, keys_reached = extend(keys, new_keys, num_past)
            all_values, values_reached = extend(values, new_values, num_past)
            stream = layer(stream, attend(query, all_keys, all_values, seen))
            reached += [keys_reached, values_reached]
        return stream, tuple(reached)


class _Layer(nn.Module):
    """Attention and a feed-forward network, each with a norm before and a gate after it."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.query_key = Linear(width, 2 * width, bias=False)
        self.value = Linear(width, width, bias=False)
        self.output = Linear(width, width)
        self.gate = _Gate(width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), Linear(width, 2 * width), nn.ReLU(), Linear(2 * width, width)
        )
        self.feed_forward_gate = _Gate(width)
        initialise_parts(self, width)

    def project(
        self, stream: Tensor, rotation: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a window, `[B, T, heads, K]` each."""
        normed = self.norm(stream)
        # Queries and keys are rotated together, as twice as many heads.
        both = self.query_key(normed).unflatten(-1, (2 * self.num_heads, -1))
        query, keys = rotate(both, rotation).chunk(2, dim=2)
        return query, keys, self.value(normed).unflatten(-1, (self.num_heads, -1))

    def forward(self, stream: Tensor, read: Tensor) -> Tensor:
        """Add the attention's read and the feed-forward output to the stream, all `[B, T, H]`."""
        stream = self.gate(stream, torch.relu(self.output(read)))
        return cast(Tensor, self.feed_forward_gate(stream, torch.relu(self.feed_forward(stream))))


class _Gate(nn.Module):
    """Combines the stream x with a layer's output y like a GRU (arXiv 1910.06764, 3.2).

    r = sigmoid(W_r y + U_r x), z = sigmoid(W_z y + U_z x - b), n = tanh(W_n y + U_n (r x)), and
    x' = (1 - z) x + z n. With b = 2 it is initialised near the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_output = Linear(width, 3 * width, bias=False)
        self.of_stream = Linear(width, 2 * width, bias=False)
        self.of_reset = Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.full((width,), 2.0))

    def forward(self, stream: Tensor, output: Tensor) -> Tensor:
        reset, update, new = self.of_output(output).chunk(3, dim=-1)
        reset_stream, update_stream = self.of_stream(stream).chunk(2, dim=-1)
        reset = torch.sigmoid(reset + reset_stream)
        update = torch.sigmoid(update + update_stream - self.bias)
        new = torch.tanh(new + self.of_reset(reset * stream))
        return torch.lerp(stream, new.to(stream.dtype), update.to(stream.dtype))


def rotations(places: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions (arXiv 2104.09864) for steps `[B, T]`, head width K.

    Returns:
        `[B, T, 1, K / 2]` each, float32.
    """
    powers = torch.arange(0, width, 2, device=places.device) / width
    angles = places[..., None, None] * LONGEST_WAVE**-powers
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate pairs of `[B, T, heads, K]`, so that dot products depend on relative positions."""
    (first, second), (cosine, sine) = vectors.chunk(2, dim=-1), rotation
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
