"""GRU windows that cost little more than their matrix products, on a CPU.

Under autocast these are computed in 16 bits, and all else in the state's dtype.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.nn import functional

from rl2_lightning.agents.memories.memory import (
    refuse_second_derivatives,
    wants_second_derivatives,
)
from rl2_lightning.agents.memories.recurrent_steps import activate_gates, tanh_in_place
from rl2_lightning.agents.products import add_product, linear, sum_of_outer_products

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def has_window_kernel(encoding: Tensor) -> bool:
    """Whether to use our own pass over a window: for learning on a CPU."""
    return (
        encoding.device.type == "cpu" and torch.is_grad_enabled() and not wants_second_derivatives()
    )


class _GRULayer(torch.autograd.Function):
    """One layer over W steps; gates in PyTorch's order: reset r, update z, new n.

    r, z = sigmoid(x W_i + b_i + h W_h + b_h), n = tanh(x W_in + b_in + r (h W_hn + b_hn)),
    h' = n + z (h - n) (arXiv 1412.3555, equations 5 to 8, with the bias inside of the reset).
    """

    @staticmethod
    @custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        steps: Tensor,
        state: Tensor,
        weight_input: Tensor,
        weight_state: Tensor,
        bias_input: Tensor,
        bias_state: Tensor,
    ) -> Tensor:
        """The states after each step, `[W, N, H]`, from steps `[W, N, I]` and a state `[N, H]`."""
        num_steps, (num, size) = len(steps), state.shape
        states = state.new_empty(num_steps + 1, num, size)
        states[0] = state
        new = torch.empty_like(states[1:])
        is_empty = not state.any()  # trials begin: the state's products are zero
        gates: list[Tensor] = []
        from_input = linear(steps, weight_input, bias_input).to(state.dtype)
        for t, inputs in enumerate(from_input):
            h, n = states[t], new[t]
            if t == 0 and is_empty:
                from_state = bias_state.repeat(num, 1)
            else:
                from_state = linear(h, weight_state, bias_state).to(state.dtype)
            r, z, new_from_state = activate_gates(inputs, from_state)
            torch.addcmul(inputs[:, -size:], r, new_from_state, out=n)
            torch.lerp(tanh_in_place(n), h, z, out=states[t + 1])
            gates.append(from_state)
        ctx.first = int(is_empty)  # the first step whose state is not zero
        ctx.save_for_backward(steps, weight_input, weight_state, states, new, *gates)
        return states[1:]

    @staticmethod
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        """Backpropagation through time; the weights get products over all steps."""
        refuse_second_derivatives("GRU")
        steps, weight_input, weight_state, states, new, *gates = ctx.saved_tensors
        num_steps, num, size = new.shape
        # Gradients before the nonlinearities; the state's part of n has passed the reset gate. What
        # the state's products need lies side by side, so that they are one product.
        grad_gates = states.new_empty(num_steps, num, 3 * size)
        grad_new = torch.empty_like(new)
        grad = grad_states[-1]
        for t in reversed(range(num_steps)):
            _gradients_of_gates(grad, gates[t], new[t], states[t + 1], grad_gates[t], grad_new[t])
            update = gates[t][:, size : 2 * size]
            if t > 0:
                grad = torch.addcmul(grad_states[t - 1], grad, update)
            elif ctx.needs_input_grad[1]:
                grad = grad * update
            if t > 0 or ctx.needs_input_grad[1]:
                grad = add_product(grad, grad_gates[t], weight_state.t())
        of_steps = None
        if ctx.needs_input_grad[0]:
            of_steps = _gradient_of_steps(grad_gates, grad_new, weight_input)
        of_input = _weights_and_biases(grad_gates, steps)
        of_bias_state = of_input[:, -1].clone()
        of_input[-size:] = _weights_and_biases(grad_new, steps)
        return (
            of_steps,
            grad if ctx.needs_input_grad[1] else None,
            of_input[:, :-1].contiguous(),
            sum_of_outer_products(
                grad_gates[ctx.first :].flatten(0, 1), states[ctx.first : -1].flatten(0, 1)
            ),
            of_input[:, -1].contiguous(),
            of_bias_state,
        )


def _gradients_of_gates(
    grad: Tensor, gates: Tensor, new: Tensor, reached: Tensor, of_gates: Tensor, of_new: Tensor
) -> None:
    """One step of the backward pass.

    Args:
        grad: gradient of the state after the step, `[N, H]`.
        gates: r, z and h W_hn + b_hn, `[N, 3 H]`.
        new: n, `[N, H]`.
        reached: h', `[N, H]`.
        of_gates: gets the gradients of the state's products, `[N, 3 H]`.
        of_new: gets the gradient of n before its nonlinearity, `[N, H]`.
    """
    reset, update, new_from_state = gates.chunk(3, dim=1)
    of_reset, of_update, of_new_state = of_gates.chunk(3, dim=1)
    passed = torch.addcmul(grad, grad, update, value=-1)
    work = reached - new  # z (h - n)
    torch.mul(work, passed, out=of_update)
    tanh_backward(passed, new, grad_input=of_new)
    torch.mul(of_new, reset, out=of_new_state)
    torch.mul(of_new, new_from_state, out=work)
    sigmoid_backward(work, reset, grad_input=of_reset)


def _gradient_of_steps(grad_gates: Tensor, grad_new: Tensor, weight_input: Tensor) -> Tensor:
    """The gradient of the steps, `[W, N, I]`, from those of the gates.

    Args:
        grad_gates: `[W, N, 3 H]`, of which the first two thirds are read.
        grad_new: `[W, N, H]`.
        weight_input: `[3 H, I]`.
    """
    num = 2 * grad_new.shape[2]
    total = linear(grad_gates[..., :num], weight_input[:num].t()).to(grad_new.dtype)
    rows = add_product(total.flatten(0, 1), grad_new.flatten(0, 1), weight_input[num:].t())
    return rows.view_as(total)


def _weights_and_biases(grad: Tensor, x: Tensor) -> Tensor:
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


# A layer over a window: forward and backward on a CPU 1.1 to 2.2 times as fast as PyTorch's, which
# records a dozen small operations per step. It cannot be differentiated twice.
unroll_layer = cast(Callable[..., Tensor], _GRULayer.apply)
