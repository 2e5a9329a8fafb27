"""A gated recurrent unit as memory (arXiv 1406.1078)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import initialise_recurrent
from rl2_lightning.agents.memories import fused_steps, recurrent_steps
from rl2_lightning.agents.memories.fused_windows import has_fused_window, unroll_gru
from rl2_lightning.agents.memories.gru_kernel import has_window_kernel, unroll_layer
from rl2_lightning.agents.memories.memory import Memory, State
from rl2_lightning.settings import Settings, between, make_settings


@dataclass
class RecurrentSettings(Settings):
    """Settings of a GRU or an LSTM.

    Attributes:
        hidden_size: H, width of the state of each layer.
        num_layers: number of stacked layers.
        max_timescale: longest initial time scale of units, in env steps; None for zero biases. See
            `initialise_recurrent`.
    """

    hidden_size: int = between(1, default=64)
    num_layers: int = between(1, 100, default=1)
    max_timescale: int | None = between(3, default=None)


class GRU(Memory):
    """PyTorch's GRU as a memory; the state is `[B, H]` for each layer.

    Args:
        input_size: I, width of the encoding.
        **settings: fields of `RecurrentSettings`.
    """

    Settings = RecurrentSettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.settings = make_settings(RecurrentSettings, settings, "memory")
        self.output_size = self.settings.hidden_size
        self.gru = nn.GRU(input_size, self.output_size, self.settings.num_layers, batch_first=True)
        initialise_recurrent(self.gru, self.settings.max_timescale)

    def initial_state(self, num: int) -> State:
        """Zeros; see `Memory.initial_state`."""
        device = next(self.gru.parameters()).device
        return tuple(
            torch.zeros(num, self.output_size, device=device) for _ in range(self.gru.num_layers)
        )

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        step, reached = _step_kernel(encoding), []
        for before, weights in zip(state, self.gru.all_weights, strict=True):
            # CUDA's cells return 16 bits under autocast; the state keeps its dtype.
            encoding = step(encoding, before, *weights).to(before.dtype)
            reached.append(encoding)
        return encoding, tuple(reached)

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        if has_fused_window():
            unroll = unroll_gru
        elif has_window_kernel(encoding):
            unroll = unroll_layer
        else:
            features, last = self.gru(encoding, torch.stack(state))
            return features, last.to(state[0].dtype).unbind()
        steps, reached = encoding.transpose(0, 1), []
        for before, weights in zip(state, self.gru.all_weights, strict=True):
            steps = unroll(steps, before, *weights)
            reached.append(steps[-1])
        return steps.transpose(0, 1), tuple(reached)


def _step_kernel(encoding: Tensor) -> Callable[..., Tensor]:
    """The step that is fast here."""
    if fused_steps.has_fused_step():
        return fused_steps.gru_step
    if recurrent_steps.has_step_kernel(encoding):
        return recurrent_steps.gru_step
    return torch.gru_cell
