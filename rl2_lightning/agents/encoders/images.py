"""Features of images."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import initialise_linear
from rl2_lightning.errors import UserError

IMAGE_DIMS = 3  # channels, height and width
# Convolutions, as in arXiv 1611.02779 for its mazes.
CHANNELS = 16
NUM_LAYERS = 2
KERNEL_SIZE = 5
STRIDE = 2


class ImageFeatures(nn.Module):
    """Convolutions over images, each followed by a ReLU.

    Args:
        shape: channels, height and width.

    Raises:
        UserError: the image is smaller than the convolutions.

    Attributes:
        output_size: number of features.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, height, width = shape
        for _ in range(NUM_LAYERS):
            layers += [nn.Conv2d(channels, CHANNELS, KERNEL_SIZE, STRIDE), nn.ReLU()]
            channels = CHANNELS
            height, width = ((size - KERNEL_SIZE) // STRIDE + 1 for size in (height, width))
        if min(height, width) < 1:
            raise UserError(f"observations of {list(shape)} are too small for the convolutions")
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.output_size = CHANNELS * height * width
        initialise_linear(self.convolutions, gain=2**0.5)

    def forward(self, images: Tensor, playing: Tensor | None = None) -> Tensor:
        """From `[..., C, H, W]` to `[..., output_size]`, float32.

        Args:
            images: `[..., C, H, W]`: uint8 in 0 to 255, or float32 of the order of 1.
            playing: where features are needed, `[..., 1]`, bool; elsewhere they are zero and no
                convolution is computed. None for everywhere.
        """
        if playing is not None:
            counts = playing.squeeze(-1)
            features = self.forward(images[counts])
            spread = features.new_zeros(*counts.shape, self.output_size)
            return spread.masked_scatter(playing, features)
        batch_shape = images.shape[:-IMAGE_DIMS]
        scaled = images.reshape(-1, *images.shape[-IMAGE_DIMS:]).float()
        if images.dtype == torch.uint8:
            scaled = scaled / 255
        # On a CPU, convolutions and their backward pass take 0.6 of the time in this layout.
        features = self.convolutions(scaled.contiguous(memory_format=torch.channels_last))
        return cast(Tensor, features.reshape(*batch_shape, self.output_size))
