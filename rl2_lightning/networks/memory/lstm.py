"""Long short-term memory (Hochreiter and Schmidhuber 1997)."""

from torchrl.modules import LSTMModule

from rl2_lightning.networks.initialisation import initialise_recurrent
from rl2_lightning.networks.memory.memory import next_keys


class LSTM(LSTMModule):
    """TorchRL's LSTM behind the contract of a memory.

    Args:
        input_size: width of the encoding.
        hidden_size: H, width of the two states of each layer, `[B, num_layers, H]` each.
        num_layers: how many LSTMs stand on top of each other.
        max_timescale: for how many steps units remember at first, at most; see
            `initialise_recurrent`.
        in_key: where the encoding stands.
        out_key: where the features `[..., H]` are written.
        state_key: stem of the names of the states.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        max_timescale: int | None = None,
        *,
        in_key: str,
        out_key: str,
        state_key: str,
    ) -> None:
        state_keys = [f"{state_key}_hidden", f"{state_key}_cell"]
        super().__init__(
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            in_keys=[in_key, *state_keys],
            out_keys=[out_key, *next_keys(state_keys)],
        )
        self.state_keys = state_keys
        self.output_size = hidden_size
        initialise_recurrent(self.lstm, max_timescale)
