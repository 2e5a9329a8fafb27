"""Windows of GRU and LSTM with gradient, of few kernels per step, for programs recorded on a GPU.

A step has a matrix product and one kernel forward, and as many backward; all weights' gradients are
products over all steps. Nothing waits for the GPU, so that a CUDA graph can record all of it.
Tensors over a window are stored with trials first, `[N, W, ...]`, as encoders and heads have them.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.dlpack import from_dlpack, to_dlpack  # type: ignore[attr-defined]

from rl2_lightning.agents.memories.fused_steps import (
    fused,
    gru_equations,
    gru_gradients,
    lstm_equations,
    lstm_gradients,
    store,
)
from rl2_lightning.agents.memories.memory import (
    refuse_second_derivatives,
    wants_second_derivatives,
)
from rl2_lightning.cuda_graphs import is_recorded


def has_fused_window() -> bool:
    """Whether to use these passes: for learning that is recorded."""
    return is_recorded() and torch.is_grad_enabled() and not wants_second_derivatives()


class _FusedGRU(torch.autograd.Function):
    """One layer over W steps; the equations are in `gru_kernel.py`."""

    @staticmethod
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
        steps, state = steps.transpose(0, 1).contiguous(), state.detach().contiguous()
        from_input = functional.linear(steps, weight_input, bias_input)
        (num, num_steps, _), size = steps.shape, state.shape[1]
        gates = steps.new_empty(num, num_steps, 4 * size)
        before, states = (steps.new_empty(num, num_steps, size) for _ in range(2))
        for t in range(num_steps):
            state = fused(_gru_forward)(
                _row(from_input, t),
                state @ weight_state.t(),
                bias_state,
                state,
                _parts(gates, t),
                (_row(before, t), _row(states, t)),
            )
        ctx.save_for_backward(steps, weight_input, weight_state, gates, before)
        return states.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        """Backpropagation through time; the weights get products over all steps."""
        refuse_second_derivatives("GRU")
        steps, weight_input, weight_state, gates, before = ctx.saved_tensors
        num, num_steps, size = before.shape
        grad_states = grad_states.transpose(0, 1).contiguous()
        # In this order the columns of the state's products, n r z, and those of the inputs'
        # products, r z n, lie side by side each.
        of_gates = torch.empty_like(gates)
        weight_rolled = weight_state.roll(size, 0)
        kept, through_products = (before.new_zeros(num, size) for _ in range(2))
        for t in reversed(range(num_steps)):
            kept = fused(_gru_backward)(
                _row(grad_states, t),
                (kept, through_products),
                _parts(gates, t),
                _row(before, t),
                _parts(of_gates, t),
            )
            if t > 0 or ctx.needs_input_grad[1]:
                through_products = of_gates[:, t, : 3 * size] @ weight_rolled
        rows = of_gates.flatten(0, 1)
        of_state, of_input, of_biases = rows[:, : 3 * size], rows[:, size:], rows.sum(0)
        return (
            _gradient_of_steps(of_input, weight_input, steps) if ctx.needs_input_grad[0] else None,
            kept + through_products if ctx.needs_input_grad[1] else None,
            of_input.t() @ steps.flatten(0, 1),
            (of_state.t() @ before.flatten(0, 1)).roll(-size, 0),
            of_biases[size:].clone(),
            of_biases[: 3 * size].roll(-size, 0),
        )


class _FusedLSTM(torch.autograd.Function):
    """One layer over W steps; the equations are in `recurrent_steps.py`."""

    @staticmethod
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

        They follow from steps `[W, N, I]`, an output `[N, H]` and a cell `[N, H]`.
        """
        steps = steps.transpose(0, 1).contiguous()
        first, cell = output.detach().contiguous(), cell.detach().contiguous()
        output = first
        from_input = functional.linear(steps, weight_input, bias_input)
        (num, num_steps, _), size = steps.shape, cell.shape[1]
        gates = steps.new_empty(num, num_steps, 4 * size)
        cells, outputs = (steps.new_empty(num, num_steps, size) for _ in range(2))
        for t in range(num_steps):
            output, cell = fused(_lstm_forward)(
                _row(from_input, t),
                output @ weight_state.t(),
                bias_state,
                cell,
                _parts(gates, t),
                (_row(cells, t), _row(outputs, t)),
            )
        ctx.save_for_backward(steps, weight_input, weight_state, gates, cells, first, outputs)
        return outputs.transpose(0, 1), cell

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor, of_cell: Tensor) -> tuple[Tensor | None, ...]:
        """Backpropagation through time; the weights get products over all steps."""
        refuse_second_derivatives("LSTM")
        steps, weight_input, weight_state, gates, cells, first, outputs = ctx.saved_tensors
        num, num_steps, size = cells.shape
        grad_outputs, of_cell = grad_outputs.transpose(0, 1).contiguous(), of_cell.contiguous()
        of_gates = torch.empty_like(gates)
        grad = cells.new_zeros(num, size)
        for t in reversed(range(num_steps)):
            of_cell = fused(_lstm_backward)(
                _row(grad_outputs, t),
                grad,
                of_cell,
                _parts(gates, t),
                _row(cells, t),
                _parts(of_gates, t),
            )
            if t > 0 or ctx.needs_input_grad[1]:
                grad = of_gates[:, t] @ weight_state
        before = torch.cat((first.unsqueeze(1), outputs[:, :-1]), dim=1)
        rows = of_gates.flatten(0, 1)
        of_biases = rows.sum(0)
        return (
            _gradient_of_steps(rows, weight_input, steps) if ctx.needs_input_grad[0] else None,
            grad if ctx.needs_input_grad[1] else None,
            of_cell if ctx.needs_input_grad[2] else None,
            rows.t() @ steps.flatten(0, 1),
            rows.t() @ before.flatten(0, 1),
            of_biases,
            of_biases.clone(),
        )


def _gru_forward(
    from_input: Tensor,
    from_state: Tensor,
    bias_state: Tensor,
    state: Tensor,
    gates: Sequence[Tensor],
    kept: Sequence[Tensor],
) -> Tensor:
    """A step that stores what the backward pass needs.

    Args:
        from_input: as in `gru_equations`, like the following three.
        from_state: `[N, 3 H]`.
        bias_state: `[3 H]`.
        state: `[N, H]`.
        gates: get all that the equations return but the state.
        kept: get the state before and after the step.

    Returns:
        The state after the step, `[N, H]`, without gaps in memory: the next one has no gaps either.
    """
    *found, reached = gru_equations(from_input, from_state, bias_state, state)
    store((*gates, *kept), *found, state, reached)
    return reached


def _gru_backward(
    grad: Tensor,
    from_later: Sequence[Tensor],
    gates: Sequence[Tensor],
    state: Tensor,
    of_gates: Sequence[Tensor],
) -> Tensor:
    """See `gru_gradients`; the gradient has a part from the loss and two from later steps."""
    kept, through_products = from_later
    return gru_gradients(grad + kept + through_products, gates, state, of_gates)


def _lstm_forward(
    from_input: Tensor,
    from_state: Tensor,
    bias_state: Tensor,
    cell: Tensor,
    gates: Sequence[Tensor],
    kept: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """A step that stores what the backward pass needs.

    Args:
        from_input: as in `lstm_equations`, like the following three.
        from_state: `[N, 4 H]`.
        bias_state: `[4 H]`.
        cell: `[N, H]`.
        gates: get the four gates.
        kept: get the cell before the step and the output after it.

    Returns:
        The output and the cell after the step, `[N, H]` each, without gaps in memory.
    """
    *found, output, reached = lstm_equations(from_input, from_state, bias_state, cell)
    # Of the output before the step nothing is computed: to store it would be a kernel of its own.
    store((*gates, *kept), *found, cell, output)
    return output, reached


def _lstm_backward(
    grad: Tensor,
    from_later: Tensor,
    grad_cell: Tensor,
    gates: Sequence[Tensor],
    cell: Tensor,
    of_gates: Sequence[Tensor],
) -> Tensor:
    """See `lstm_gradients`; the output's gradient has a part from the loss and one from later."""
    return lstm_gradients(grad + from_later, grad_cell, gates, cell, of_gates)


def _row(window: Tensor, t: int) -> Tensor:
    """The step t, `[N, X]`, of a window, `[N, W, X]`."""
    return _apart(window[:, t])


def _parts(window: Tensor, t: int) -> tuple[Tensor, ...]:
    """The step t of four tensors, `[N, H]` each, that lie side by side in `[N, W, 4 H]`."""
    return tuple(_apart(part) for part in window[:, t].chunk(4, dim=1))


def _apart(view: Tensor) -> Tensor:
    """The same memory as a tensor that is no view.

    For views of one tensor of which some are written, the compiler makes a version for each step,
    or computes copies.
    """
    return from_dlpack(to_dlpack(view))  # as a capsule: a tensor would have its stream looked up


def _gradient_of_steps(of_input: Tensor, weight_input: Tensor, steps: Tensor) -> Tensor:
    """The gradient of the steps, `[W, N, I]`, from that of their products, `[N W, G H]`."""
    return (of_input @ weight_input).view_as(steps).transpose(0, 1)


# Layers over a window; they cannot be differentiated twice.
unroll_gru = cast(Callable[..., Tensor], _FusedGRU.apply)
unroll_lstm = cast(Callable[..., tuple[Tensor, Tensor]], _FusedLSTM.apply)
