"""What the kernels of GRU and LSTM have in common; see `gru_kernel.py` and `lstm_kernel.py`.

Under autocast their matrix products are computed in 16 bits, and all else in the state's dtype.
"""

import torch
from torch import Tensor
from torch.nn import functional

from rl2_lightning.agents.memories.memory import wants_second_derivatives
from rl2_lightning.agents.products import sum_of_outer_products

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input

# Numbers of a tensor. The memory of much larger ones goes back to the system each time, whose pages
# are then zeroed again; see `allocator.py`.
LARGEST = 2**22


def has_step_kernel(encoding: Tensor) -> bool:
    """Whether to use our own step: for acting on a CPU."""
    return encoding.device.type == "cpu" and not torch.is_grad_enabled()


def has_window_kernel(encoding: Tensor) -> bool:
    """Whether to use our own pass over a window: for learning on a CPU."""
    return (
        encoding.device.type == "cpu" and torch.is_grad_enabled() and not wants_second_derivatives()
    )


def refuse_second_derivatives() -> None:
    """Stop a backward pass that is itself differentiated.

    PyTorch's `once_differentiable` lets some second derivatives be silently wrong.

    Raises:
        RuntimeError: it is.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("this memory is differentiated twice: unroll it in second_derivatives()")


def tanh_in_place(numbers: Tensor) -> Tensor:
    """The hyperbolic tangent as 2 sigmoid(2 x) - 1: on a CPU a fifth of the time of `tanh_`."""
    halves = numbers.mul_(2).sigmoid_()
    return torch.add(numbers.new_full((), -1), halves, alpha=2, out=numbers)


def parts_of(num_steps: int, numbers_per_step: int) -> list[range]:
    """Consecutive steps of a window, in parts of at most `LARGEST` numbers.

    Args:
        num_steps: W, at least 1.
        numbers_per_step: size of a tensor for one step.
    """
    at_once = max(1, LARGEST // numbers_per_step)
    return [range(at, min(at + at_once, num_steps)) for at in range(0, num_steps, at_once)]


def weights_and_biases(grad: Tensor, x: Tensor) -> Tensor:
    """The gradients of a linear layer's weights and, in the last column, of its biases.

    Args:
        grad: the gradient of its outputs, `[..., O]`.
        x: its inputs, `[..., I]`.

    Returns:
        `[O, I + 1]`.
    """
    # A column of ones takes less time than another pass over the gradients.
    with_ones = functional.pad(x, (0, 1), value=1.0)
    return sum_of_outer_products(grad.flatten(0, -2), with_ones.flatten(0, -2))
