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


def initialise_recurrent(module: nn.RNNBase) -> None:
    """Makes the weights of every gate orthogonal by themselves, with zero biases.

    Args:
        module: a `torch.nn.GRU` or `torch.nn.LSTM`, changed in place.
    """
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
        else:
            for gate in parameter.data.split(module.hidden_size):
                nn.init.orthogonal_(gate)
