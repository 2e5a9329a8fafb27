"""GRU and LSTM recorded into a CUDA graph compute what PyTorch's layers do."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rl2_lightning.cuda_graphs import recorded
from tests.agents.recurrent import draw, make, plain_step, plain_window

KINDS = pytest.mark.parametrize("kind", ["gru", "lstm"])
CLOSE = {"atol": 1e-4, "rtol": 1e-3}


def record(compute: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """A graph of the computation, and the tensors that a replay fills."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), recorded():
        for _ in range(3):
            compute()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), recorded():
        found = compute()
    return graph, found


@torch.no_grad()
def change(tensors: list[Tensor]) -> None:
    for tensor in tensors:
        tensor.copy_(0.3 * torch.randn_like(tensor))


@KINDS
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_window_with_its_gradients(kind: str, num_layers: int) -> None:
    own = make(kind, 5, 64, num_layers).cuda()
    _, state = draw(own, 33)
    encoding = torch.randn(33, 10, 5, device="cuda")
    inputs = [one.requires_grad_() for one in (encoding, *state, *own.parameters())]
    weights = torch.linspace(-1, 1, 33 * 10 * 64, device="cuda").view(33, 10, 64)

    def results(features: Tensor, last: tuple[Tensor, ...]) -> list[Tensor]:
        loss = (features * weights).mean() + sum(one.square().mean() for one in last)
        return [features, *last, *torch.autograd.grad(loss, inputs)]

    graph, found = record(lambda: results(*own.unroll(encoding, state)))
    change(inputs)
    graph.replay()
    torch.testing.assert_close(found, results(*plain_window(own, encoding, state)), **CLOSE)


@KINDS
@torch.no_grad()
def test_a_step(kind: str) -> None:
    own = make(kind, 5, 64).cuda()
    encoding, state = draw(own, 33)

    def results() -> list[Tensor]:
        features, reached = own.step(encoding, state)
        return [features, *reached]

    graph, found = record(results)
    change([encoding, *state])
    graph.replay()
    features, reached = plain_step(own, encoding, state)
    torch.testing.assert_close(found, [features, *reached], **CLOSE)
