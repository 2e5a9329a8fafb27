"""The pointwise part of a step of GRU and LSTM as one kernel each, for programs recorded on a GPU.

There each operation is a launch and a way through memory, so `torch.compile` makes one kernel of
all equations of a step; matrix products stay those of PyTorch. Each call has a cost in Python that
a CUDA graph leaves out, so these are used only within `recorded()`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor

from rl2_lightning.cuda_graphs import is_recorded

Equations = TypeVar("Equations", bound=Callable[..., object])


def has_fused_step() -> bool:
    """Whether to use these steps: for acting that is recorded."""
    return is_recorded() and not torch.is_grad_enabled()


@cache
def fused(equations: Equations) -> Equations:
    """The equations as one kernel, compiled at the first call with each dtype and shape.

    Shapes that have changed once are compiled as variable, so there are few versions.
    """
    return cast(Equations, torch.compile(equations))


def gru_step(
    encoding: Tensor,
    state: Tensor,
    weight_input: Tensor,
    weight_state: Tensor,
    bias_input: Tensor,
    bias_state: Tensor,
) -> Tensor:
    """One step without gradients; arguments and result as in `recurrent_steps.gru_step`."""
    from_input = torch.addmm(bias_input, encoding, weight_input.t())
    return fused(_gru_reached)(from_input, state @ weight_state.t(), bias_state, state)


def lstm_step(
    encoding: Tensor,
    output: Tensor,
    cell: Tensor,
    weight_input: Tensor,
    weight_state: Tensor,
    bias_input: Tensor,
    bias_state: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step without gradients; arguments and results as in `recurrent_steps.lstm_step`."""
    from_input = torch.addmm(bias_input, encoding, weight_input.t())
    return fused(_lstm_reached)(from_input, output @ weight_state.t(), bias_state, cell)


def gru_equations(
    from_input: Tensor, from_state: Tensor, bias_state: Tensor, state: Tensor
) -> tuple[Tensor, ...]:
    """A step of `gru_kernel.py` after its products.

    Args:
        from_input: x W_i + b_i, `[N, 3 H]`.
        from_state: h W_h, `[N, 3 H]`.
        bias_state: b_h, `[3 H]`.
        state: h, `[N, H]`.

    Returns:
        h W_hn + b_hn, r, z, n and h', `[N, H]` each.
    """
    reset_input, update_input, new_input = from_input.chunk(3, dim=1)
    reset_state, update_state, new_from_state = (from_state + bias_state).chunk(3, dim=1)
    reset = torch.sigmoid(reset_input + reset_state)
    update = torch.sigmoid(update_input + update_state)
    new = torch.tanh(new_input + reset * new_from_state)
    return new_from_state, reset, update, new, new + update * (state - new)


def gru_gradients(
    grad: Tensor, gates: Sequence[Tensor], state: Tensor, of_gates: Sequence[Tensor]
) -> Tensor:
    """The derivatives of `gru_equations`.

    Args:
        grad: gradient of h', `[N, H]`.
        gates: h W_hn + b_hn, r, z and n, `[N, H]` each.
        state: h, `[N, H]`.
        of_gates: get the gradients of the first of these and, before their nonlinearities, of the
            others.

    Returns:
        The gradient of h but for the part through its products, `[N, H]`.
    """
    new_from_state, reset, update, new = gates
    of_new = grad * (1 - update) * (1 - new * new)
    store(
        of_gates,
        of_new * reset,
        of_new * new_from_state * reset * (1 - reset),
        grad * (state - new) * update * (1 - update),
        of_new,
    )
    return grad * update


def lstm_equations(
    from_input: Tensor, from_state: Tensor, bias_state: Tensor, cell: Tensor
) -> tuple[Tensor, ...]:
    """A step of `recurrent_steps.lstm_step` after its products.

    Args:
        from_input: x W_i + b_i, `[N, 4 H]`.
        from_state: h W_h, `[N, 4 H]`.
        bias_state: b_h, `[4 H]`.
        cell: c, `[N, H]`.

    Returns:
        i, f, g, o, h' and c', `[N, H]` each.
    """
    before = (from_input + from_state + bias_state).chunk(4, dim=1)
    input_gate, forget, output_gate = (torch.sigmoid(before[gate]) for gate in (0, 1, 3))
    new = torch.tanh(before[2])
    reached = forget * cell + input_gate * new
    return input_gate, forget, new, output_gate, output_gate * torch.tanh(reached), reached


def lstm_gradients(
    grad_output: Tensor,
    grad_cell: Tensor,
    gates: Sequence[Tensor],
    cell: Tensor,
    of_gates: Sequence[Tensor],
) -> Tensor:
    """The derivatives of `lstm_equations`.

    Args:
        grad_output: gradient of h', `[N, H]`.
        grad_cell: gradient of c' but for the part through h', `[N, H]`.
        gates: i, f, g and o, `[N, H]` each.
        cell: c, `[N, H]`.
        of_gates: get the gradients of the gates before their nonlinearities.

    Returns:
        The gradient of c, `[N, H]`.
    """
    input_gate, forget, new, output_gate = gates
    squashed = torch.tanh(forget * cell + input_gate * new)
    of_reached = grad_cell + grad_output * output_gate * (1 - squashed * squashed)
    store(
        of_gates,
        of_reached * new * input_gate * (1 - input_gate),
        of_reached * cell * forget * (1 - forget),
        of_reached * input_gate * (1 - new * new),
        grad_output * squashed * output_gate * (1 - output_gate),
    )
    return of_reached * forget


def store(targets: Sequence[Tensor], *results: Tensor) -> None:
    """Write results into tensors that exist."""
    for target, result in zip(targets, results, strict=True):
        target.copy_(result)


def _gru_reached(*arguments: Tensor) -> Tensor:
    return gru_equations(*arguments)[-1]


def _lstm_reached(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    *_, output, cell = lstm_equations(*arguments)
    return output, cell
