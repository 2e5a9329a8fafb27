"""From what the environment shows to one vector a step."""

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.data import Composite
from torchrl.modules import MLP

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.networks.initialisation import initialise_linear

INPUTS = (keys.OBSERVATION, keys.PREVIOUS_ACTION, keys.PREVIOUS_REWARD, keys.PREVIOUS_DONE)
ALL_INPUTS = (*INPUTS, keys.PREVIOUS_OBSERVATION)


class Encoder(TensorDictModuleBase):
    """Concatenates the RL² inputs, and passes them through fully connected layers if there are any.

    Args:
        observation_spec: unbatched spec of what the environment shows.
        inputs: which of `ALL_INPUTS` the agent sees, those of RL² being `INPUTS`.
        hidden_sizes: widths of the layers, each followed by a ReLU; none feeds the memory directly.
        out_key: where the encoding `[..., output_size]` is written.

    Raises:
        UserError: no input is left, or one is unknown.
    """

    def __init__(
        self,
        observation_spec: Composite,
        *,
        inputs: Sequence[str],
        hidden_sizes: Sequence[int],
        out_key: str,
    ) -> None:
        super().__init__()
        unknown = set(inputs) - set(ALL_INPUTS)
        if unknown or not inputs:
            raise UserError(
                f"network.inputs={list(inputs)}: name at least one of {', '.join(ALL_INPUTS)}"
            )
        self.in_keys = [key for key in ALL_INPUTS if key in inputs]
        self.out_keys = [out_key]
        self._dims = [len(observation_spec[key].shape) for key in self.in_keys]
        if 0 in self._dims:
            raise UserError(
                f"{self.in_keys[self._dims.index(0)]} is a number without a dimension: give its "
                "spec the shape (1,)"
            )
        size = sum(observation_spec[key].shape.numel() for key in self.in_keys)
        self.layers: nn.Module = nn.Identity()
        if hidden_sizes:
            *first, last = hidden_sizes
            self.layers = MLP(
                size,
                last,
                num_cells=list(first),
                activation_class=nn.ReLU,
                activate_last_layer=True,
            )
            initialise_linear(self.layers, gain=2**0.5)
        self.output_size = hidden_sizes[-1] if hidden_sizes else size

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Writes the encoding `[..., output_size]`, float32."""
        parts = [
            tensordict.get(key).flatten(-dims)
            for key, dims in zip(self.in_keys, self._dims, strict=True)
        ]
        return tensordict.set(self.out_keys[0], self.layers(torch.cat(parts, dim=-1)))
