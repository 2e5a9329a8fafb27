"""From what the environment shows to one vector a step."""

from collections.abc import Sequence
from typing import cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.data import Composite
from torchrl.modules import MLP, ConvNet

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.networks.initialisation import initialise_linear

INPUTS = (keys.OBSERVATION, keys.PREVIOUS_ACTION, keys.PREVIOUS_REWARD, keys.PREVIOUS_DONE)
ALL_INPUTS = (*INPUTS, keys.PREVIOUS_OBSERVATION)


IMAGE_DIMS = 3  # channels, height and width
# Of images, as arXiv 1611.02779 has them for its mazes.
IMAGE_CHANNELS = [16, 16]
KERNEL_SIZE = 5
STRIDE = 2


class ImageFeatures(nn.Module):
    """Convolutions over images of bytes, each followed by a ReLU.

    Args:
        shape: channels, height and width.

    Raises:
        UserError: the image is smaller than the convolutions.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self._convolutions = ConvNet(
            in_features=shape[0],
            num_cells=IMAGE_CHANNELS,
            kernel_sizes=KERNEL_SIZE,
            strides=STRIDE,
            activation_class=nn.ReLU,
        )
        height, width = (_convolved(size) for size in shape[1:])
        if min(height, width) < 1:
            raise UserError(f"observations of {list(shape)} are too small for the convolutions")
        self.output_size = IMAGE_CHANNELS[-1] * height * width
        initialise_linear(self._convolutions, gain=2**0.5)

    def forward(self, images: Tensor) -> Tensor:
        """From `[..., C, H, W]`, uint8, to `[..., output_size]`, float32."""
        batch_shape = images.shape[:-IMAGE_DIMS]
        scaled = images.reshape(-1, *images.shape[-IMAGE_DIMS:]).float() / 255
        # On a CPU convolutions and their backward pass take 0.6 of the time in this layout.
        features = self._convolutions(scaled.contiguous(memory_format=torch.channels_last))
        return cast(Tensor, features.reshape(*batch_shape, self.output_size))


def _convolved(size: int) -> int:
    for _ in IMAGE_CHANNELS:
        size = (size - KERNEL_SIZE) // STRIDE + 1
    return size


class Encoder(TensorDictModuleBase):
    """Concatenates the RL² inputs, and passes them through fully connected layers if there are any.

    Images pass through convolutions first.

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
        self.image_features = nn.ModuleDict()
        size = 0
        for key, dims in zip(self.in_keys, self._dims, strict=True):
            shape = observation_spec[key].shape
            if dims == IMAGE_DIMS:
                features = ImageFeatures(shape)
                self.image_features[key] = features
                size += features.output_size
            else:
                size += shape.numel()
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
        parts = []
        for key, dims in zip(self.in_keys, self._dims, strict=True):
            shown = tensordict.get(key)
            if key in self.image_features:
                parts.append(self._features_of(key, shown, tensordict.get(keys.MASK, None)))
            else:
                parts.append(shown.flatten(-dims))
        return tensordict.set(self.out_keys[0], self.layers(torch.cat(parts, dim=-1)))

    def _features_of(self, key: str, images: Tensor, mask: Tensor | None) -> Tensor:
        """The features of images; zero on the idle tails of a window, which need no convolution."""
        if mask is None:
            return cast(Tensor, self.image_features[key](images))
        counts = mask.squeeze(-1)
        features = self.image_features[key](images[counts])
        spread = features.new_zeros(*counts.shape, features.shape[-1])
        return cast(Tensor, spread.masked_scatter(counts.unsqueeze(-1), features))
