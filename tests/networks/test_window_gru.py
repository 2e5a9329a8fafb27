"""The GRU with a backward pass of its own is PyTorch's GRU."""

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning.networks.memory.window_gru import WindowGRU


def pair(num_layers: int) -> tuple[nn.GRU, WindowGRU]:
    torch.manual_seed(0)
    plain = nn.GRU(5, 7, num_layers, batch_first=True).double()
    own = WindowGRU(5, 7, num_layers, batch_first=True).double()
    own.load_state_dict(plain.state_dict())
    return plain, own


def results(module: nn.GRU, steps: Tensor, state: Tensor) -> list[Tensor]:
    output, last = module(steps, state)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    loss = (output * weights).sum() + last.square().sum()
    return [output, last, *torch.autograd.grad(loss, [steps, state, *module.parameters()])]


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("length", [1, 6])
def test_it_gives_the_same_states_and_gradients(num_layers: int, length: int) -> None:
    plain, own = pair(num_layers)
    steps = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(num_layers, 3, 7, dtype=torch.float64, requires_grad=True)
    found = results(own, steps, state)
    assert "GRULayer" in str(own(steps, state)[0].grad_fn.next_functions)
    for expected, value in zip(results(plain, steps, state), found, strict=True):
        torch.testing.assert_close(value, expected)


def test_its_gradient_is_that_of_finite_differences() -> None:
    _, own = pair(1)
    steps = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(1, 2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: own(*inputs)[0], (steps, state))


def test_under_autocast_and_without_gradients_it_leaves_the_pass_to_pytorch() -> None:
    plain, own = pair(1)
    plain, own = plain.float(), own.float()
    steps, state = torch.randn(3, 4, 5), torch.zeros(1, 3, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert own(steps, state)[0].dtype == plain(steps, state)[0].dtype
    with torch.no_grad():
        assert torch.equal(own(steps, state)[0], plain(steps, state)[0])
