"""LSTM steps and windows that cost little more than their matrix products, on a CPU."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd

from rl2_lightning.agents.memories.recurrent_kernel import (
    parts_of,
    refuse_second_derivatives,
    sigmoid_backward,
    tanh_backward,
    tanh_in_place,
    weights_and_biases,
)
from rl2_lightning.agents.products import add_product, linear, sum_of_outer_products


def step_in_place(
    encoding: Tensor,
    output: Tensor,
    cell: Tensor,
    weight_input: Tensor,
    weight_state: Tensor,
    bias_input: Tensor,
    bias_state: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step without gradients: the equations of `_LSTMLayer` with few temporary tensors.

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
    gates = _activate(add_product(from_input, output, weight_state))
    input_gate, forget, new, output_gate = gates.chunk(4, dim=1)
    reached = torch.mul(forget, cell).addcmul_(input_gate, new)
    return tanh_in_place(reached.clone()).mul_(output_gate), reached


def _activate(gates: Tensor) -> Tensor:
    """The gates i, f, g and o in place of what is before their nonlinearities, `[B, 4 H]`."""
    size = gates.shape[1] // 4
    new = gates[:, 2 * size : 3 * size]
    new.mul_(2)  # tanh(x) = 2 sigmoid(2 x) - 1, so that one sigmoid serves all four
    gates.sigmoid_()
    new.mul_(2).sub_(1)
    return gates


class _LSTMLayer(torch.autograd.Function):
    """One layer over W steps; gates in PyTorch's order: input i, forget f, new g, output o.

    i, f, o = sigmoid(x W_i + b_i + h W_h + b_h), g = tanh(x W_ig + b_ig + h W_hg + b_hg),
    c' = f c + i g, h' = o tanh(c') (arXiv 1402.1128, equations 1 to 5, without peepholes).
    """

    @staticmethod
    @custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        steps: Tensor,
        output: Tensor,
        cell: Tensor,
        weight_input: Tensor,
        weight_state: Tensor,
        bias_input: Tensor,
        bias_state: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The outputs after each step, `[W, N, H]`, and the last cell, `[N, H]`.

        Steps are `[W, N, I]`, the output and the cell before them `[N, H]`.
        """
        num_steps, (num, size) = len(steps), output.shape
        biases = bias_input + bias_state
        outputs, cells = output.new_empty(2, num_steps + 1, num, size)
        outputs[0], cells[0] = output, cell
        activations = torch.empty_like(cells[1:])  # tanh(c')
        is_empty = not output.any()  # trials begin: the output's products are zero
        gates: list[Tensor] = []
        for part in parts_of(num_steps, 4 * output.numel()):
            from_input = linear(steps[part.start : part.stop], weight_input, biases)
            from_input = from_input.to(cell.dtype)
            for t, before in zip(part, from_input, strict=True):
                has_output = t > 0 or not is_empty
                total = add_product(before, outputs[t], weight_state) if has_output else before
                gates.append(_activate(total))
                i, f, g, o = total.chunk(4, dim=1)
                torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
                tanh_in_place(activations[t].copy_(cells[t + 1]))
                torch.mul(o, activations[t], out=outputs[t + 1])
        ctx.first = int(is_empty)  # the first step whose output is not zero
        saved = (steps, weight_input, weight_state, outputs, cells, activations)
        ctx.save_for_backward(*saved, *gates)
        return outputs[1:], cells[-1].clone()

    @staticmethod
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_outputs: Tensor, grad_cell: Tensor) -> tuple[Tensor | None, ...]:
        """Backpropagation through time; the weights get products over many steps."""
        refuse_second_derivatives()
        steps, weight_input, weight_state, outputs, cells, activations, *gates = ctx.saved_tensors
        num_steps, num, size = activations.shape
        of_steps = torch.empty_like(steps) if ctx.needs_input_grad[0] else None
        of_input = of_state = cells.new_zeros(())
        grad = grad_outputs[-1]
        for part in reversed(parts_of(num_steps, 4 * num * size)):
            # Gradients before the nonlinearities, side by side as in the weights.
            grad_gates = cells.new_empty(len(part), num, 4 * size)
            for t in reversed(part):
                of_gates = grad_gates[t - part.start]
                step = (gates[t], cells[t], activations[t])
                grad_cell = _gradients_of_gates(grad, grad_cell, *step, of_gates)
                if t > 0 or ctx.needs_input_grad[1]:
                    grad = linear(of_gates, weight_state.t()).to(of_gates.dtype)
                if t > 0:
                    grad += grad_outputs[t - 1]
            here = slice(part.start, part.stop)
            if of_steps is not None:
                of_steps[here] = linear(grad_gates, weight_input.t())
            of_input = of_input + weights_and_biases(grad_gates, steps[here])
            first = max(part.start, ctx.first)
            of_state = of_state + sum_of_outer_products(
                grad_gates[first - part.start :].flatten(0, 1),
                outputs[first : part.stop].flatten(0, 1),
            )
        of_biases = of_input[:, -1].contiguous()
        return (
            of_steps,
            grad if ctx.needs_input_grad[1] else None,
            grad_cell if ctx.needs_input_grad[2] else None,
            of_input[:, :-1].contiguous(),
            of_state,
            of_biases,
            of_biases.clone(),
        )


def _gradients_of_gates(
    grad: Tensor,
    grad_cell: Tensor,
    gates: Tensor,
    cell: Tensor,
    activation: Tensor,
    of_gates: Tensor,
) -> Tensor:
    """One step of the backward pass.

    Args:
        grad: gradient of the output after the step, `[N, H]`.
        grad_cell: gradient of the cell after it.
        gates: i, f, g, o, `[N, 4 H]`.
        cell: c, the cell before the step.
        activation: tanh(c').
        of_gates: gets the gradients before the nonlinearities, `[N, 4 H]`.

    Returns:
        The gradient of the cell before the step, `[N, H]`.
    """
    i, f, g, o = gates.chunk(4, dim=1)
    of_i, of_f, of_g, of_o = of_gates.chunk(4, dim=1)
    work = grad * activation
    sigmoid_backward(work, o, grad_input=of_o)
    torch.mul(grad, o, out=work)
    grad_cell = grad_cell + tanh_backward(work, activation, grad_input=work)
    tanh_backward(torch.mul(grad_cell, i, out=work), g, grad_input=of_g)
    sigmoid_backward(torch.mul(grad_cell, g, out=work), i, grad_input=of_i)
    sigmoid_backward(torch.mul(grad_cell, cell, out=work), f, grad_input=of_f)
    return grad_cell.mul_(f)


# A layer over a window: forward and backward on a CPU in about half of the time of PyTorch's. It
# cannot be differentiated twice.
unroll_layer = cast(Callable[..., tuple[Tensor, Tensor]], _LSTMLayer.apply)
