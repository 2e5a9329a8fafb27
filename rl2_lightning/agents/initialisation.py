"""Orthogonal weights and zero biases (arXiv 1312.6120)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from rl2_lightning.agents.products import Linear

OUTPUT_GAIN = 0.01  # of a policy's last layer, so that the initial policy is nearly uniform


def initialise_linear(module: nn.Module, gain: float) -> None:
    """Initialise all linear and convolution layers of a module: orthogonal weights, zero biases.

    Args:
        module: changed in place.
        gain: scale of the weights.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_parts(module: nn.Module, size: int) -> None:
    """Like `initialise_linear` with gain 1, for layers that are several stacked into one.

    Args:
        module: changed in place.
        size: number of outputs of each stacked layer, which are made orthogonal separately.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            for part in layer.weight.data.split(size):
                nn.init.orthogonal_(part)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_recurrent(module: nn.RNNBase, max_timescale: int | None) -> None:
    """Initialise the weights of each gate as orthogonal, with zero biases.

    With zero biases a unit forgets half of its state at every step, and gradients do not reach back
    over many steps. With a time scale, the biases of the gates that retain the state are set so
    that the units' time scales are distributed uniformly between 1 and that many steps (arXiv
    1804.11188, equation 16).

    Args:
        module: a `torch.nn.GRU` or `torch.nn.LSTM`, changed in place.
        max_timescale: in steps, at least 3; None leaves all biases at zero.
    """
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
        else:
            for gate in parameter.data.split(module.hidden_size):
                nn.init.orthogonal_(gate)
    if max_timescale is None:
        return
    for layer in range(module.num_layers):
        # The gates are in the order reset, update, new; or input, forget, cell, output.
        first, second, *_ = getattr(module, f"bias_ih_l{layer}").data.split(module.hidden_size)
        second.uniform_(1, max_timescale - 1).log_()
        if isinstance(module, nn.LSTM):
            first.copy_(-second)


def fully_connected(
    num_inputs: int,
    hidden_sizes: Sequence[int],
    num_outputs: int | None = None,
    *,
    output_gain: float = 1.0,
) -> nn.Sequential:
    """Fully connected layers with orthogonal weights, each except the output followed by a ReLU.

    Args:
        num_inputs: width of the input.
        hidden_sizes: widths of the hidden layers.
        num_outputs: width of the output layer; None for none.
        output_gain: scale of the output layer's weights.
    """
    layers: list[nn.Module] = []
    sizes = [num_inputs, *hidden_sizes]
    for before, after in pairwise(sizes):
        layers += [Linear(before, after), nn.ReLU()]
        initialise_linear(layers[-2], gain=2**0.5)
    if num_outputs is not None:
        layers.append(Linear(sizes[-1], num_outputs))
        initialise_linear(layers[-1], gain=output_gain)
    return nn.Sequential(*layers)
