"""The tests of this folder need a GPU."""

import os
from collections.abc import Iterator

import pytest
import torch

# Read when the first product is computed: without it products are not deterministic.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def _needs_gpu() -> Iterator[None]:
    """Skip without a GPU; products are computed in full float32, to be compared with a CPU's."""
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    precision, allowed = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Add up in the same order in each run, where PyTorch can."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
