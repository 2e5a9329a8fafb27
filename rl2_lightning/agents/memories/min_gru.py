"""A minimal GRU, which processes windows by a scan over time (arXiv 2410.01201)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from rl2_lightning.agents.initialisation import initialise_linear
from rl2_lightning.agents.memories.gru import RecurrentSettings
from rl2_lightning.agents.memories.memory import (
    Memory,
    State,
    refuse_second_derivatives,
    wants_second_derivatives,
)
from rl2_lightning.agents.products import Linear
from rl2_lightning.settings import between, make_settings


@dataclass
class MinGRUSettings(RecurrentSettings):
    """Settings of a minimal GRU: those of a GRU with another default."""

    num_layers: int = between(1, 100, default=2)


class MinGRU(Memory):
    """Layers h' = (1 - z) h + z n, in which z and n depend on the layer's input but not its state.

    So all matrix products of a window are computed at once, and only a scan over time remains. The
    gate of a unit cannot depend on its state; that takes a second layer. The state is `[B, H]` for
    each layer.

    Args:
        input_size: I, width of the encoding.
        **settings: fields of `MinGRUSettings`.
    """

    Settings = MinGRUSettings

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.settings = make_settings(MinGRUSettings, settings, "memory")
        self.output_size = self.settings.hidden_size
        self.layers = nn.ModuleList()
        for number in range(self.settings.num_layers):
            size = self.output_size if number else input_size
            self.layers.append(_Gates(size, self.output_size, self.settings.max_timescale))

    def initial_state(self, num: int) -> State:
        """Zeros; see `Memory.initial_state`."""
        device = next(self.parameters()).device
        return tuple(torch.zeros(num, self.output_size, device=device) for _ in self.layers)

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        reached = []
        for before, gates in zip(state, self.layers, strict=True):
            keep, new = gates(encoding)
            encoding = torch.lerp(new, before, torch.sigmoid(keep))
            reached.append(encoding)
        return encoding, tuple(reached)

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        steps, reached = encoding.transpose(0, 1), []
        # On a device with few threads, in-place steps one after the other are fastest.
        in_place = encoding.device.type == "cpu" and not wants_second_derivatives()
        for before, gates in zip(state, self.layers, strict=True):
            keep, new = gates(steps)
            if in_place:
                steps = unroll_in_place(keep, new, before)
            else:
                keep = torch.sigmoid(keep)
                steps = linear_recurrence(keep, (1 - keep) * new, before)
            reached.append(steps[-1])
        return steps.transpose(0, 1), tuple(reached)


class _Gates(nn.Module):
    """The logit of 1 - z, how much a layer keeps, and the new value n; `[..., H]` each."""

    def __init__(self, input_size: int, hidden_size: int, max_timescale: int | None) -> None:
        super().__init__()
        self.keep = Linear(input_size, hidden_size)
        self.new = Linear(input_size, hidden_size)
        initialise_linear(self, gain=1.0)
        if max_timescale is not None:
            # As for a GRU; see `initialise_recurrent`.
            self.keep.bias.data.uniform_(1, max_timescale - 1).log_()

    def forward(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        # Not rounded under autocast, since rounding errors of the state would accumulate.
        return self.keep(encoding).to(encoding.dtype), self.new(encoding).to(encoding.dtype)


class _Unroll(torch.autograd.Function):
    """h[t] = n[t] + sigmoid(keep[t]) (h[t - 1] - n[t]), with few temporary tensors."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, new: Tensor, state: Tensor) -> Tensor:
        """The states after each step, `[T, B, H]`, from gates `[T, B, H]` and a state `[B, H]`."""
        keep, states = torch.empty_like(new), new.new_empty(len(new) + 1, *state.shape)
        states[0] = state
        for t in range(len(new)):
            torch.sigmoid(logits[t], out=keep[t])
            torch.lerp(new[t], states[t], keep[t], out=states[t + 1])
        ctx.save_for_backward(keep, new, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Backpropagation through time."""
        refuse_second_derivatives("minimal GRU")
        keep, new, states = ctx.saved_tensors
        grad_logits, grad_new = torch.empty_like(keep), torch.empty_like(new)
        grad, work = new.new_zeros(2, *new.shape[1:])
        for t in reversed(range(len(new))):
            grad += grad_states[t]
            torch.sub(states[t], new[t], out=work).mul_(grad)
            torch.ops.aten.sigmoid_backward(work, keep[t], grad_input=grad_logits[t])
            torch.mul(grad, keep[t], out=work)
            torch.sub(grad, work, out=grad_new[t])
            grad, work = work, grad
        return grad_logits, grad_new, grad


class _LinearRecurrence(torch.autograd.Function):
    """h[t] = keep[t] h[t - 1] + new[t], in parallel over time; differentiable to any order."""

    @staticmethod
    def forward(keep: Tensor, new: Tensor, state: Tensor) -> Tensor:
        """The states after each step, `[T, B, H]`, from steps `[T, B, H]` and a state `[B, H]`."""
        return _scan_pairs(keep, new, state)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        keep, _, state = inputs
        ctx.save_for_backward(keep, state, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient is itself such a recurrence, backwards in time."""
        keep, state, states = ctx.saved_tensors
        # The element that `roll` wraps around is multiplied by the zero initial state.
        keep_after = keep.roll(-1, 0).flip(0)
        flow = linear_recurrence(keep_after, grad.flip(0), torch.zeros_like(state)).flip(0)
        before = torch.cat([state.unsqueeze(0), states[:-1]])
        return flow * before, flow, keep[0] * flow[0]


def _scan_pairs(keep: Tensor, new: Tensor, state: Tensor) -> Tensor:
    """A scan in about 2 log2(T) operations: pairs of steps are merged recursively.

    Factors lie in [0, 1], so that products do not overflow, and there is no division.
    """
    if len(new) == 1:
        return torch.addcmul(new, keep, state)
    num_paired = len(new) // 2 * 2
    first_keep, second_keep = keep[:num_paired:2], keep[1::2]
    of_pairs = torch.addcmul(new[1::2], second_keep, new[:num_paired:2])
    states = torch.empty_like(new)
    states[1::2] = _scan_pairs(second_keep * first_keep, of_pairs, state)
    states[0] = torch.addcmul(new[0], keep[0], state)
    states[2::2] = torch.addcmul(new[2::2], keep[2::2], states[1:-1:2])
    return states


unroll_in_place = cast(Callable[..., Tensor], _Unroll.apply)
linear_recurrence = cast(Callable[..., Tensor], _LinearRecurrence.apply)
