"""What the memory is given of vectors and of images."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Composite, Unbounded

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.networks.encoder import Encoder

IMAGE = (3, 30, 40)


def encoder_of(observation: Unbounded | Bounded, hidden_sizes: tuple[int, ...] = ()) -> Encoder:
    spec = Composite({keys.OBSERVATION: observation, keys.PREVIOUS_REWARD: Unbounded((1,))})
    inputs = (keys.OBSERVATION, keys.PREVIOUS_REWARD)
    return Encoder(spec, inputs=inputs, hidden_sizes=hidden_sizes, out_key="encoding")


def images() -> Encoder:
    return encoder_of(Bounded(0, 255, IMAGE, dtype=torch.uint8))


def steps(*batch: int, seed: int = 0) -> TensorDict:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (*batch, *IMAGE), generator=generator, dtype=torch.uint8)
    reward = torch.randn(*batch, 1, generator=generator)
    return TensorDict({keys.OBSERVATION: image, keys.PREVIOUS_REWARD: reward}, batch)


def test_vectors_are_concatenated() -> None:
    given = TensorDict(
        {keys.OBSERVATION: torch.tensor([[1.0, 2.0]]), keys.PREVIOUS_REWARD: torch.tensor([[3.0]])},
        [1],
    )
    encoder = encoder_of(Unbounded((2,)))
    assert encoder.output_size == 3
    assert encoder(given)["encoding"].tolist() == [[1, 2, 3]]


def test_images_pass_through_two_convolutions() -> None:
    encoder = images()
    # 30 x 40, then 13 x 18, then 5 x 7, with 16 channels.
    assert encoder.output_size == 16 * 5 * 7 + 1
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(16, 3, 5, 5), (16, 16, 5, 5)]
    given = steps(4)
    expected = given[keys.OBSERVATION] / 255
    for layer in layers:
        expected = nn.functional.conv2d(expected, layer.weight, layer.bias, stride=2).relu()
    found = encoder(given)["encoding"]
    torch.testing.assert_close(found[:, :-1], expected.flatten(1))
    torch.testing.assert_close(found[:, -1:], given[keys.PREVIOUS_REWARD])
    assert not any(layer.bias.any() for layer in layers)
    weight = layers[0].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(16))


def test_a_window_is_encoded_as_its_steps_are() -> None:
    encoder, window = images(), steps(3, 5)
    found = encoder(window.clone())["encoding"]
    alone = torch.stack([encoder(window[:, t].clone())["encoding"] for t in range(5)], dim=1)
    torch.testing.assert_close(found, alone)


def test_images_of_an_idle_tail_are_not_looked_at() -> None:
    encoder, window = images(), steps(2, 5)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]]).unsqueeze(-1)
    whole = encoder(window.clone())["encoding"]
    masked = encoder(window.clone().set(keys.MASK, mask))["encoding"]
    torch.testing.assert_close(masked.masked_fill(~mask, 0), whole.masked_fill(~mask, 0))
    assert not masked[1, 2:, :-1].any()
    masked.sum().backward()
    gradient = next(encoder.parameters()).grad.clone()
    encoder.zero_grad()
    (whole * mask).sum().backward()
    torch.testing.assert_close(gradient, next(encoder.parameters()).grad)


def test_images_that_are_too_small() -> None:
    with pytest.raises(UserError, match=r"observations of \[3, 12, 40\] are too small"):
        encoder_of(Bounded(0, 255, (3, 12, 40), dtype=torch.uint8))
