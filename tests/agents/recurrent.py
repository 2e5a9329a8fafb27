"""GRU and LSTM with random weights, and the same by PyTorch's layers."""

import torch
from torch import Tensor

from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.lstm import LSTM
from rl2_lightning.agents.memories.memory import State
from tests.builders import make_memory


def make(kind: str, input_size: int = 5, hidden_size: int = 7, num_layers: int = 2) -> GRU | LSTM:
    own = make_memory(kind, input_size, hidden_size=hidden_size, num_layers=num_layers)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases, too
    return own


def draw(own: GRU | LSTM, num: int, input_size: int = 5) -> tuple[Tensor, State]:
    """The encoding of a step, and a state before it."""
    dtype = next(own.parameters()).dtype
    state = tuple(torch.randn_like(one, dtype=dtype) for one in own.initial_state(num))
    return torch.randn(num, input_size, dtype=dtype, device=state[0].device), state


def plain_step(own: GRU | LSTM, encoding: Tensor, state: State) -> tuple[Tensor, State]:
    """A step by PyTorch's cells."""
    reached: list[Tensor] = []
    if isinstance(own, GRU):
        for before, weights in zip(state, own.gru.all_weights, strict=True):
            encoding = torch.gru_cell(encoding, before, *weights)
            reached.append(encoding)
    else:
        for layer, weights in enumerate(own.lstm.all_weights):
            pair = torch.lstm_cell(encoding, state[2 * layer : 2 * layer + 2], *weights)
            encoding = pair[0]
            reached += pair
    return encoding, tuple(reached)


def plain_window(own: GRU | LSTM, encoding: Tensor, state: State) -> tuple[Tensor, State]:
    """A window by PyTorch's layers."""
    if isinstance(own, GRU):
        features, last = own.gru(encoding, torch.stack(state))
        return features, last.unbind()
    outputs, cells = torch.stack(state[::2]), torch.stack(state[1::2])
    features, (outputs, cells) = own.lstm(encoding, (outputs, cells))
    return features, tuple(one for pair in zip(outputs, cells, strict=True) for one in pair)


def names_of(output: Tensor) -> set[str]:
    """The names of all operations behind a tensor."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return {node.name() for node in seen}
