"""Orthogonal weights and zero biases (arXiv 1312.6120)."""

from torch import nn


def initialise_linear(module: nn.Module, gain: float) -> None:
    """Makes every linear and convolution layer of a module orthogonal, with zero biases.

    Args:
        module: changed in place.
        gain: scale of the weights.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_recurrent(module: nn.RNNBase, max_timescale: int | None) -> None:
    """Makes the weights of every gate orthogonal by themselves, with zero biases.

    With zero biases a unit forgets half of what it holds with every step, and no gradient reaches
    back over many. With a time scale, the gates that keep begin with biases with which units hold
    what they have for 1 to that many steps, any alike likely (arXiv 1804.11188, equation 16).

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
        # Gates stand in the order reset, update, new; or input, forget, cell, output.
        first, second, *_ = getattr(module, f"bias_ih_l{layer}").data.split(module.hidden_size)
        second.uniform_(1, max_timescale - 1).log_()
        if isinstance(module, nn.LSTM):
            first.copy_(-second)
