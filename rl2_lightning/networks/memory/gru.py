"""A gated recurrent unit as memory (arXiv 1406.1078)."""

from torchrl.modules import GRUModule

from rl2_lightning.networks.initialisation import initialise_recurrent
from rl2_lightning.networks.memory.memory import next_keys
from rl2_lightning.networks.memory.window_gru import WindowGRU


class GRU(GRUModule):
    """TorchRL's GRU behind the contract of a memory.

    Args:
        input_size: width of the encoding.
        hidden_size: H, width of the state of each layer, `[B, num_layers, H]`.
        num_layers: how many GRUs stand on top of each other.
        max_timescale: for how many steps units remember at first, at most; see
            `initialise_recurrent`.
        in_key: where the encoding stands.
        out_key: where the features `[..., H]` are written.
        state_key: name of the state.
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
        state_keys = [state_key]
        super().__init__(
            gru=WindowGRU(input_size, hidden_size, num_layers, batch_first=True),
            in_keys=[in_key, *state_keys],
            out_keys=[out_key, *next_keys(state_keys)],
        )
        self.state_keys = state_keys
        self.output_size = hidden_size
        initialise_recurrent(self.gru, max_timescale)
