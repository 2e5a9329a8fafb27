"""The encoding of vectors, actions and images."""

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning.agents.encoders.encoder import Encoder
from rl2_lightning.agents.spaces import Actions, Box, Discrete, MultiDiscrete, Observations
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs

IMAGE = (3, 30, 40)
PICTURES = Box(IMAGE, "uint8")


def encoder_of(
    observations: Observations,
    inputs: tuple[str, ...] = ("observation", "previous_reward"),
    actions: Actions = Discrete(2),  # noqa: B008  it is frozen
    **options: int,
) -> Encoder:
    torch.manual_seed(0)
    return Encoder(observations, actions, inputs, (), **options)


def shown(observation: Tensor, previous_action: Tensor | None = None) -> Inputs:
    """Inputs with random rewards."""
    generator = torch.Generator().manual_seed(1)
    batch = observation.shape[:-3] if observation.ndim > 3 else observation.shape[:-1]
    reward = torch.randn(*batch, 1, generator=generator)
    action = torch.zeros(batch, dtype=torch.int64) if previous_action is None else previous_action
    return Inputs(observation, action, reward, torch.zeros(*batch, 1), 2 * observation)


def pictures(*batch: int) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    return shown(torch.randint(256, (*batch, *IMAGE), generator=generator, dtype=torch.uint8))


def step_of(inputs: Inputs, step: int) -> Inputs:
    return Inputs(*(entry[:, step] for entry in inputs))


def test_vectors_are_concatenated_in_the_order_of_the_inputs() -> None:
    given = shown(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    reward = given.previous_reward.item()
    encoder = encoder_of(Box((2,)))
    assert encoder.output_size == 3
    assert encoder(given).tolist() == [pytest.approx([1, 2, reward])]
    encoder = encoder_of(Box((2,)), tuple(reversed(Inputs._fields)))
    assert encoder.output_size == 2 + 2 + 1 + 1 + 2
    assert encoder(given).tolist() == [pytest.approx([1, 2, 0, 1, reward, 0, 2, 4])]


def test_actions_are_one_hot_and_none_is_all_zeros() -> None:
    encoder = encoder_of(Box((1,)), ("previous_action",), Discrete(3))
    actions = torch.tensor([[0, 2], [3, 1]])
    found = encoder(shown(torch.zeros(2, 2, 1), actions))
    assert found.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]]


def test_several_discrete_actions_are_one_hot_one_by_one() -> None:
    encoder = encoder_of(Box((1,)), ("previous_action",), MultiDiscrete((3, 1, 2)))
    actions = torch.tensor([[[0, 0, 1], [2, 0, 0]], [[3, 1, 2], [1, 0, 2]]])
    found = encoder(shown(torch.zeros(2, 2, 1), actions))
    assert found[0].tolist() == [[1, 0, 0, 1, 0, 1], [0, 0, 1, 1, 1, 0]]
    assert found[1].tolist() == [[0] * 6, [0, 1, 0, 1, 0, 0]]


def test_continuous_actions_are_given_as_they_are() -> None:
    actions = torch.tensor([[0.5, -1.0]])
    encoder = encoder_of(Box((1,)), ("previous_action",), Box((2,), low=(-1, -1), high=(1, 1)))
    assert torch.equal(encoder(shown(torch.zeros(1, 1), actions)), actions)


def test_bytes_that_are_no_image_become_floats() -> None:
    encoder = encoder_of(Box((2, 2), "uint8"), ("observation",))
    observation = torch.arange(8, dtype=torch.uint8).view(2, 2, 2)
    found = encoder(Inputs(observation, *shown(torch.zeros(2, 1))[1:]))
    assert found.dtype == torch.float32
    assert found.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_images_pass_through_two_convolutions() -> None:
    encoder = encoder_of(PICTURES)
    # 30 x 40, then 13 x 18, then 5 x 7, with 16 channels.
    assert encoder.output_size == 16 * 5 * 7 + 1
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(16, 3, 5, 5), (16, 16, 5, 5)]
    given = pictures(4)
    expected = given.observation / 255
    for layer in layers:
        expected = nn.functional.conv2d(expected, layer.weight, layer.bias, stride=2).relu()
    found = encoder(given)
    torch.testing.assert_close(found[:, :-1], expected.flatten(1))
    torch.testing.assert_close(found[:, -1:], given.previous_reward)
    assert not any(layer.bias.any() for layer in layers)
    weight = layers[0].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(16))


def test_a_window_is_encoded_as_its_steps_are() -> None:
    encoder, window = encoder_of(PICTURES), pictures(3, 5)
    alone = torch.stack([encoder(step_of(window, t)) for t in range(5)], dim=1)
    torch.testing.assert_close(encoder(window), alone)


def test_images_of_an_idle_tail_are_not_looked_at() -> None:
    encoder, window = encoder_of(PICTURES), pictures(2, 5)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]]).unsqueeze(-1)
    whole, masked = encoder(window), encoder(window, mask)
    torch.testing.assert_close(masked.masked_fill(~mask, 0), whole.masked_fill(~mask, 0))
    assert not masked[1, 2:, :-1].any()
    masked.sum().backward()
    gradient = next(encoder.parameters()).grad.clone()
    encoder.zero_grad()
    (whole * mask).sum().backward()
    torch.testing.assert_close(gradient, next(encoder.parameters()).grad)


def test_nothing_but_idle_images() -> None:
    encoder = encoder_of(PICTURES)
    found = encoder(pictures(2, 3), torch.zeros(2, 3, 1, dtype=torch.bool))
    assert not found[..., :-1].any()
    found.sum().backward()
    assert not next(encoder.parameters()).grad.any()


@pytest.mark.parametrize(
    ("sides", "kernels", "features"),
    [
        ((5, 5), [3, 3], 1 * 1),
        ((7, 7), [3, 3], 3 * 3),
        ((12, 40), [3, 3], 8 * 36),
        ((13, 13), [5, 5], 1 * 1),
        ((30, 40), [5, 5], 5 * 7),
        ((84, 84), [5, 5, 5], 7 * 7),
        ((210, 160), [5, 5, 5, 5], 10 * 7),
    ],
)
def test_the_convolutions_fit_the_image(
    sides: tuple[int, int], kernels: list[int], features: int
) -> None:
    image = Box((2, *sides), "uint8")
    encoder = encoder_of(image, ("observation",))
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size[0] for layer in layers] == kernels
    assert encoder.output_size == 16 * features
    shown = torch.randint(256, (3, *image.shape), dtype=torch.uint8)
    nothing = torch.zeros(3, 1)
    assert encoder(Inputs(shown, nothing, nothing, nothing, shown)).shape == (3, 16 * features)


def test_images_that_are_too_small() -> None:
    with pytest.raises(UserError, match=r"observations of \[3, 4, 40\] are too small"):
        encoder_of(Box((3, 4, 40), "uint8"))


def test_images_of_numbers_are_taken_as_they_are() -> None:
    encoder = encoder_of(PICTURES, ("observation",))
    bytes_shown = pictures(4)
    numbers_shown = bytes_shown._replace(observation=bytes_shown.observation.float() / 255)
    torch.testing.assert_close(encoder(numbers_shown), encoder(bytes_shown))


@pytest.mark.parametrize("batch", [(3,), (3, 4)])
def test_discounts_are_embedded_beside_the_inputs(batch: tuple[int, ...]) -> None:
    given = shown(torch.ones(*batch, 2))
    plain, encoder = encoder_of(Box((2,))), encoder_of(Box((2,)), discount_embedding=5)
    assert encoder.output_size == plain.output_size + 5
    found = []
    for gamma, gae_lambda in ((0.9, 0.8), (0.99, 0.8), (0.99, 0.95)):
        encoder.set_discounts(gamma, gae_lambda)
        encoding = encoder(given)
        torch.testing.assert_close(encoding[..., :3], plain(given))
        expected = encoder.embedding.weight @ torch.tensor([gamma, gae_lambda])
        torch.testing.assert_close(encoding[..., 3:], expected.expand(*batch, 5))
        found.append(expected)
    assert len({tuple(one.tolist()) for one in found}) == 3
    # Without an embedding they are not even stored.
    plain.set_discounts(0.9, 0.8)
    assert "discounts" in encoder.state_dict()
    assert not plain.state_dict()
