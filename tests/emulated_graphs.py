"""An emulation of CUDA graphs on a CPU, which repeats operations on tensors and no Python code."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten

from rl2_lightning import cuda_graphs
from rl2_lightning.agents.memories import fused_steps, fused_windows


def emulated_capture(
    function: Callable[[], Any], generators: Sequence[torch.Generator]
) -> tuple[Callable[[], None], Any]:
    """Like `cuda_graphs.capture`.

    Numbers that Python computes while tracing become constants, and a branch on the value of a
    tensor raises an error.
    """
    forms = []

    def tensors(_: Tensor) -> list[Tensor]:
        found, form = tree_flatten(function())
        forms.append(form)
        return found

    unused = torch.zeros(())
    traced = make_fx(tensors)(unused)
    (form,) = forms
    with torch.no_grad():
        # What is in memory once for all trials stays so.
        kept = [one if 0 in one.stride() else one.clone() for one in traced(unused)]

    @torch.no_grad()
    def replay() -> None:
        for tensor, new in zip(kept, traced(unused), strict=True):
            if 0 not in tensor.stride():
                tensor.copy_(new)

    return replay, form.unflatten(kept)


def emulate(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """Emulate the graphs of runs; the list gets the functions that are recorded."""
    if torch.__version__ < (2, 13):
        pytest.skip("earlier versions of PyTorch trace no generators")
    recorded: list[Callable[[], Any]] = []

    def capture(function: Callable[[], Any], generators: Sequence[torch.Generator]) -> Any:
        recorded.append(function)
        return emulated_capture(function, generators)

    # What is compiled cannot be traced, nor what refers to the same memory by another tensor.
    for module in (fused_steps, fused_windows):
        monkeypatch.setattr(module, "fused", lambda equations: equations)
    monkeypatch.setattr(fused_windows, "_apart", lambda view: view)
    monkeypatch.setattr(cuda_graphs, "warm_up", lambda function: function())
    monkeypatch.setattr(cuda_graphs, "capture", capture)
    return recorded
