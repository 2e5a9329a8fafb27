"""Long short-term memory (Hochreiter and Schmidhuber 1997)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import initialise_recurrent
from rl2_lightning.agents.memories import fused_steps, recurrent_steps
from rl2_lightning.agents.memories.fused_windows import has_fused_window, unroll_lstm
from rl2_lightning.agents.memories.gru import RecurrentSettings
from rl2_lightning.agents.memories.memory import Memory, State
from rl2_lightning.settings import make_settings


class LSTM(Memory):
    """PyTorch's LSTM as a memory.

    The state is the output and the cell of each layer, `[B, H]` each.

    Args:
        input_size: I, width of the encoding.
        **settings: fields of `RecurrentSettings`.
    """

    Settings = RecurrentSettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.settings = make_settings(RecurrentSettings, settings, "memory")
        self.output_size = self.settings.hidden_size
        self.lstm = nn.LSTM(
            input_size, self.output_size, self.settings.num_layers, batch_first=True
        )
        initialise_recurrent(self.lstm, self.settings.max_timescale)

    def initial_state(self, num: int) -> State:
        """Zeros; see `Memory.initial_state`."""
        device = next(self.lstm.parameters()).device
        return tuple(
            torch.zeros(num, self.output_size, device=device)
            for _ in range(2 * self.lstm.num_layers)
        )

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        step, reached = _step_kernel(encoding), []
        for layer, weights in enumerate(self.lstm.all_weights):
            before = state[2 * layer : 2 * layer + 2]
            after = step(encoding, *before, *weights)
            # CUDA's cells return 16 bits under autocast; the state keeps its dtype.
            encoding, cell = (tensor.to(before[0].dtype) for tensor in after)
            reached += [encoding, cell]
        return encoding, tuple(reached)

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        if has_fused_window():
            return self._unroll_fused(encoding, state)
        outputs, cells = torch.stack(state[::2]), torch.stack(state[1::2])
        features, (outputs, cells) = self.lstm(encoding, (outputs, cells))
        pairs = zip(outputs, cells, strict=True)
        return features, tuple(tensor.to(state[0].dtype) for pair in pairs for tensor in pair)

    def _unroll_fused(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `unroll_trial`."""
        steps, reached = encoding.transpose(0, 1), []
        for layer, weights in enumerate(self.lstm.all_weights):
            steps, cell = unroll_lstm(steps, *state[2 * layer : 2 * layer + 2], *weights)
            reached += [steps[-1], cell]
        return steps.transpose(0, 1), tuple(reached)


def _step_kernel(encoding: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
    """The step that is fast here."""
    if fused_steps.has_fused_step():
        return fused_steps.lstm_step
    if recurrent_steps.has_step_kernel(encoding):
        return recurrent_steps.lstm_step
    return _plain_step


def _plain_step(
    encoding: Tensor, output: Tensor, cell: Tensor, *weights: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.lstm_cell(encoding, (output, cell), *weights)
