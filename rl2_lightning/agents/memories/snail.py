"""SNAIL: causal dilated convolutions and attention over the whole trial (arXiv 1707.03141)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import (
    fully_connected,
    initialise_linear,
    initialise_parts,
)
from rl2_lightning.agents.memories.cache import attend, extend, longest_past, seen_steps
from rl2_lightning.agents.memories.memory import Memory, State, shared_zeros
from rl2_lightning.agents.products import Linear
from rl2_lightning.errors import UserError
from rl2_lightning.settings import Settings, between, make_settings


@dataclass
class SNAILSettings(Settings):
    """Settings of SNAIL; the defaults are the paper's for bandits and MDPs.

    Attributes:
        hidden_size: width of the fully connected layer before the convolutions.
        num_filters: D, channels that each convolution adds.
        num_layers: number of stacks of convolutions, each of which spans a whole trial.
        key_size: K, width of the attention's queries and keys.
        value_size: V, width of the attention's values.
        max_steps: L, maximum number of env steps of a trial. The convolutions span that many steps,
            and the state stores as many.
    """

    hidden_size: int = between(1, default=32)
    num_filters: int = between(1, default=32)
    num_layers: int = between(1, 100, default=2)
    key_size: int = between(1, default=32)
    value_size: int = between(1, default=32)
    max_steps: int = between(2, default=100)


class SNAIL(Memory):
    """A layer, stacks of dense blocks, and attention; each appends its channels to its input.

    The state is a count of steps, `[B, 1]`, int64, which marks the entries that belong to the
    trial; the attention's keys and values of the last L steps, `[B, L, 1, K]` and `[B, L, 1, V]`;
    and for each convolution of dilation R the contributions of the last R steps to later ones, `[B,
    R, 2 D]`. In a trial longer than `max_steps` it sees the last L steps.

    Args:
        input_size: I, width of the encoding.
        **settings: fields of `SNAILSettings`.
    """

    Settings = SNAILSettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.settings = make_settings(SNAILSettings, settings, "memory")
        size = self.settings.hidden_size
        self.first = fully_connected(input_size, [size])
        # Dilations 1, 2, 4, ...: as many as it takes to span a trial.
        powers = range((self.settings.max_steps - 1).bit_length())
        self._dilations = [2**power for power in powers] * self.settings.num_layers
        self.blocks = nn.ModuleList()
        for _ in self._dilations:
            self.blocks.append(_DenseBlock(size, self.settings.num_filters))
            size += self.settings.num_filters
        self.query = Linear(size, self.settings.key_size)
        self.key = Linear(size, self.settings.key_size)
        self.value = Linear(size, self.settings.value_size)
        for layer in (self.query, self.key, self.value):
            initialise_linear(layer, gain=1.0)
        self.output_size = size + self.settings.value_size

    def initial_state(self, num: int) -> State:
        """A state without steps; see `Memory.initial_state`."""
        device, sizes = self.query.weight.device, self.settings
        shapes = [
            *((sizes.max_steps, 1, width) for width in (sizes.key_size, sizes.value_size)),
            *((dilation, 2 * sizes.num_filters) for dilation in self._dilations),
        ]
        count = shared_zeros(num, 1, device=device, dtype=torch.int64)
        return count, *(shared_zeros(num, *shape, device=device) for shape in shapes)

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        features, state = self._advance(encoding.unsqueeze(1), state, self.settings.max_steps - 1)
        return features.squeeze(1), state

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        num_past = longest_past(state[0], self.settings.max_steps - 1)
        return self._advance(encoding, state, num_past)

    def require_steps(self, num_steps: int) -> None:
        """See `Memory.require_steps`."""
        if num_steps > self.settings.max_steps:
            raise UserError(
                f"memory.max_steps={self.settings.max_steps} is less than the {num_steps} env "
                f"steps of a trial: train with memory.max_steps={num_steps}, or on shorter trials"
            )

    def _advance(self, encoding: Tensor, state: State, num_past: int) -> tuple[Tensor, State]:
        """Compute the steps of a window, which attend to `num_past` steps before it."""
        (count, keys, values, *delays), num_steps = state, encoding.shape[1]
        # Time-major, so that a delayed tensor is a slice.
        channels, delays_reached = self.first(encoding.transpose(0, 1)), []
        for block, delay in zip(self.blocks, delays, strict=True):
            new, reached = block(channels, delay)
            channels = torch.cat([channels, new], dim=-1)
            delays_reached.append(reached)
        query, new_keys, new_values = (
            layer(channels).transpose(0, 1).unsqueeze(2)
            for layer in (self.query, self.key, self.value)
        )
        all_keys, keys = extend(keys, new_keys, num_past)
        all_values, values = extend(values, new_values, num_past)
        seen = seen_steps(count, num_past, num_steps, self.settings.max_steps)
        read = attend(query, all_keys, all_values, seen).transpose(0, 1)
        features = torch.cat([channels, read], dim=-1).transpose(0, 1)
        return features, (count + num_steps, keys, values, *delays_reached)


class _DenseBlock(nn.Module):
    """A causal convolution of kernel 2 with a gate: tanh(f) sigmoid(g), D new channels."""

    def __init__(self, num_channels: int, num_filters: int) -> None:
        super().__init__()
        # Both taps of the kernel: for the step itself, and for the step one dilation later.
        self.taps = Linear(num_channels, 4 * num_filters)
        initialise_parts(self, num_filters)

    def forward(self, channels: Tensor, delay: Tensor) -> tuple[Tensor, Tensor]:
        """Process a window.

        Args:
            channels: `[T, B, C]`.
            delay: contributions of the steps before the window, `[B, R, 2 D]`.

        Returns:
            New channels, `[T, B, D]`, and the delay after the window.
        """
        now, later = self.taps(channels).chunk(2, dim=-1)
        line = torch.cat([delay.transpose(0, 1), later.to(delay.dtype)])
        filters, gates = (now + line[: len(now)]).chunk(2, dim=-1)
        reached = line[len(now) :].transpose(0, 1)
        return torch.tanh(filters) * torch.sigmoid(gates), reached
