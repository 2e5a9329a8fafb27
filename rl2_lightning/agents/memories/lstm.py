"""Long short-term memory (Hochreiter and Schmidhuber 1997)."""

from typing import Any

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import initialise_recurrent
from rl2_lightning.agents.memories.gru import RecurrentSettings
from rl2_lightning.agents.memories.memory import Memory, State
from rl2_lightning.agents.memories.recurrent_steps import has_step_kernel, lstm_step
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
        has_kernel, reached = has_step_kernel(encoding), []
        for layer, weights in enumerate(self.lstm.all_weights):
            before = state[2 * layer : 2 * layer + 2]
            if has_kernel:
                after = lstm_step(encoding, *before, *weights)
            else:
                after = torch.lstm_cell(encoding, before, *weights)
            # CUDA's cells return 16 bits under autocast; the state keeps its dtype.
            encoding, cell = (tensor.to(before[0].dtype) for tensor in after)
            reached += [encoding, cell]
        return encoding, tuple(reached)

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        outputs, cells = torch.stack(state[::2]), torch.stack(state[1::2])
        features, (outputs, cells) = self.lstm(encoding, (outputs, cells))
        pairs = zip(outputs, cells, strict=True)
        return features, tuple(tensor.to(state[0].dtype) for pair in pairs for tensor in pair)
