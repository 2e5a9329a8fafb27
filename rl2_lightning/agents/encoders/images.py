"""Features of images."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import initialise_linear
from rl2_lightning.errors import UserError

IMAGE_DIMS = 3  # channels, height and width
CHANNELS = 16
MIN_LAYERS = 2
# As in arXiv 1611.02779 for its mazes; more of these layers for larger images.
LARGE = (5, 2)  # kernel size and stride
LARGEST_SIDE = 8  # features of a larger smaller side get another layer
# For images in which each pixel is a cell of a grid, such as 7 × 7.
SMALL = (3, 1)
SMALLEST_LARGE = 13  # smallest side that two layers for large images leave anything of


class ImageFeatures(nn.Module):
    """Convolutions that fit the size of the images, each followed by a ReLU.

    Two layers of 5 × 5 with stride 2, and more of them until the smaller side is at most 8; or two
    layers of 3 × 3 with stride 1 if a side is shorter than 13.

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
        channels, *sides = shape
        is_small = min(sides) < SMALLEST_LARGE
        kernel_size, stride = SMALL if is_small else LARGE
        while len(layers) < 2 * MIN_LAYERS or (not is_small and min(sides) > LARGEST_SIDE):
            sides = [(side - kernel_size) // stride + 1 for side in sides]
            if min(sides) < 1:
                raise UserError(
                    f"observations of {list(shape)} are too small for the convolutions: give them "
                    "at least 5 pixels a side, or another number of dimensions than 3"
                )
            layers += [nn.Conv2d(channels, CHANNELS, kernel_size, stride), nn.ReLU()]
            channels = CHANNELS
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.output_size = CHANNELS * sides[0] * sides[1]
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
