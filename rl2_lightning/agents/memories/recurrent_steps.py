"""Steps of GRU and LSTM that cost little more than their matrix products, on a CPU.

Under autocast these products are computed in 16 bits, and all else in the state's dtype.
"""

import torch
from torch import Tensor

from rl2_lightning.agents.products import add_product, linear


def has_step_kernel(encoding: Tensor) -> bool:
    """Whether to use our own step: for acting on a CPU, but not in an exported program.

    There an operation in place becomes several.
    """
    return (
        encoding.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def gru_step(
    encoding: Tensor,
    state: Tensor,
    weight_input: Tensor,
    weight_state: Tensor,
    bias_input: Tensor,
    bias_state: Tensor,
) -> Tensor:
    """One step without gradients: the equations of `gru_kernel.py` with few temporary tensors.

    Args:
        encoding: `[B, I]`, float.
        state: `[B, H]`, float.
        weight_input: W_i of all gates, `[3 H, I]`; like the following, in PyTorch's order.
        weight_state: W_h, `[3 H, H]`.
        bias_input: b_i, `[3 H]`.
        bias_state: b_h, `[3 H]`.

    Returns:
        The next state, `[B, H]`.
    """
    from_input = linear(encoding, weight_input, bias_input).to(state.dtype)
    from_state = linear(state, weight_state, bias_state).to(state.dtype)
    reset, update, new_from_state = activate_gates(from_input, from_state)
    new = torch.addcmul(from_input[:, -state.shape[1] :], reset, new_from_state)
    return torch.lerp(tanh_in_place(new), state, update)


def activate_gates(from_input: Tensor, from_state: Tensor) -> tuple[Tensor, ...]:
    """The reset and the update gate in place of the state's products, and its product for n.

    Args:
        from_input: x W_i + b_i, `[B, 3 H]`.
        from_state: h W_h + b_h, `[B, 3 H]`; overwritten.

    Returns:
        r, z and h W_hn + b_hn, `[B, H]` each, of the same memory.
    """
    num_gates = from_state.shape[1] // 3 * 2
    from_state[:, :num_gates].add_(from_input[:, :num_gates]).sigmoid_()
    return from_state.chunk(3, dim=1)


def lstm_step(
    encoding: Tensor,
    output: Tensor,
    cell: Tensor,
    weight_input: Tensor,
    weight_state: Tensor,
    bias_input: Tensor,
    bias_state: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step without gradients, with few temporary tensors.

    i, f, o = sigmoid(x W_i + b_i + h W_h + b_h), g = tanh(x W_ig + b_ig + h W_hg + b_hg),
    c' = f c + i g, h' = o tanh(c') (arXiv 1402.1128, equations 1 to 5, without peepholes).

    Args:
        encoding: `[B, I]`, float.
        output: `[B, H]`, float.
        cell: `[B, H]`, float.
        weight_input: W_i of all gates, `[4 H, I]`; like the following, in PyTorch's order.
        weight_state: W_h, `[4 H, H]`.
        bias_input: b_i, `[4 H]`.
        bias_state: b_h, `[4 H]`.

    Returns:
        The next output and the next cell, `[B, H]` each.
    """
    from_input = linear(encoding, weight_input, bias_input + bias_state).to(cell.dtype)
    gates = _activate_lstm(add_product(from_input, output, weight_state))
    input_gate, forget, new, output_gate = gates.chunk(4, dim=1)
    reached = torch.mul(forget, cell).addcmul_(input_gate, new)
    return tanh_in_place(reached.clone()).mul_(output_gate), reached


def _activate_lstm(gates: Tensor) -> Tensor:
    """The gates i, f, g and o in place of what is before their nonlinearities, `[B, 4 H]`."""
    size = gates.shape[1] // 4
    new = gates[:, 2 * size : 3 * size]
    new.mul_(2)  # tanh(x) = 2 sigmoid(2 x) - 1, so that one sigmoid serves all four
    gates.sigmoid_()
    new.mul_(2).sub_(1)
    return gates


def tanh_in_place(numbers: Tensor) -> Tensor:
    """The hyperbolic tangent as 2 sigmoid(2 x) - 1: on a CPU a fifth of the time of `tanh_`."""
    halves = numbers.mul_(2).sigmoid_()
    return torch.add(numbers.new_full((), -1), halves, alpha=2, out=numbers)
