"""Matrix products by oneDNN and by PyTorch's default are the same within rounding."""

from collections.abc import Callable
from time import perf_counter

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from rl2_lightning.agents import products
from rl2_lightning.agents.products import Linear, linear, prefers_onednn, sum_of_outer_products

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)


@pytest.fixture(autouse=True)
def _on_a_processor_where_onednn_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_mkl_leaves_vectors_unused", lambda: True)


def large(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def derivatives(
    multiply: Callable[..., Tensor], *inputs: Tensor
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The product, the gradients of a loss, and those of a loss of these."""
    leaves = [one.clone().requires_grad_() for one in inputs]
    product = multiply(*leaves)
    first = torch.autograd.grad(product.square().mean(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(one.square().sum() for one in first), leaves)
    return product, first, second


@pytest.mark.parametrize(("width", "num_outputs"), [(6, 64), (64, 6), (64, 192), (128, 256)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_products_and_derivatives_are_those_of_pytorch(
    width: int, num_outputs: int, has_bias: bool
) -> None:
    inputs = [large(30, 100, width), large(num_outputs, width), large(num_outputs)]
    inputs = inputs[: 2 + has_bias]
    assert prefers_onednn(*inputs[:2])
    assert_close(
        derivatives(linear, *inputs), derivatives(functional.linear, *inputs), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("num_rows", [2048, 5003])  # whole images, and rows that are left
@pytest.mark.parametrize(("width", "num_outputs"), [(6, 64), (64, 6), (128, 256)])
def test_sums_of_outer_products(num_rows: int, width: int, num_outputs: int) -> None:
    left, right = large(num_rows, num_outputs), large(num_rows, width)
    # A backward pass takes oneDNN, and a graph of second derivatives PyTorch's default.
    for is_differentiated in (False, True):
        with torch.set_grad_enabled(is_differentiated):
            product = sum_of_outer_products(left, right)
        assert product.is_contiguous()
        assert_close(product, left.t() @ right, rtol=1e-4, atol=1e-3)


@torch.no_grad()  # as in a backward pass
def test_under_autocast_sums_have_16_bits_and_the_dtype_of_the_factors() -> None:
    left, right = large(2048, 6), large(2048, 64)
    for one, other in ((left, right), (right, left)):
        with torch.autocast("cpu", torch.bfloat16):
            product = sum_of_outer_products(one, other)
        assert product.dtype == torch.float32
        assert torch.equal(product, product.bfloat16().float())
        assert_close(product, one.t() @ other, rtol=0.05, atol=1.0)


def test_rows_of_other_tensors_and_repeated_ones() -> None:
    weight = large(96, 32)
    for x in (large(1000, 80)[:, 3:35], large(2000, 32)[::2], large(1, 32).expand(1000, 32)):
        assert prefers_onednn(x, weight)
        assert_close(linear(x, weight), functional.linear(x, weight))


@torch.no_grad()  # as in a backward pass
def test_columns_of_wider_matrices_are_not_slow() -> None:
    left, right = large(2560, 144)[:, :64], large(2560, 144)[:, :64]
    weight = large(64, 144)[:, :64]
    assert not prefers_onednn(right, weight)

    def seconds(left: Tensor, right: Tensor, weight: Tensor) -> float:
        start = perf_counter()
        for _ in range(3):
            sum_of_outer_products(left, right)
            linear(right, weight)
        return perf_counter() - start

    dense = [one.contiguous() for one in (left, right, weight)]
    assert_close(sum_of_outer_products(left, right), left.t() @ right, rtol=1e-4, atol=1e-3)
    assert_close(linear(right, weight), functional.linear(right, weight))
    seconds(*dense)
    # oneDNN would need a thousand times as long.
    assert seconds(left, right, weight) < 50 * seconds(*dense)


def test_nan_stays_in_its_row() -> None:
    x = large(1000, 64)
    x[3, 5] = torch.nan
    product = linear(x, large(64, 64))
    assert product[3].isnan().all()
    assert product[torch.arange(1000) != 3].isfinite().all()


def test_where_the_default_is_kept() -> None:
    x, weight = large(1000, 64), large(64, 64)
    assert prefers_onednn(x, weight)
    assert not prefers_onednn(x[:100], weight)
    assert not prefers_onednn(x.double(), weight.double())
    assert not prefers_onednn(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu"):
        assert not prefers_onednn(x, weight)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not prefers_onednn(x, weight)


def test_a_layer_uses_it() -> None:
    layer, x = Linear(64, 64), large(1000, 64)
    assert type(layer(x).grad_fn.next_functions[0][0]).__name__ == "_LinearBackward"
    assert_close(layer(x), functional.linear(x, layer.weight, layer.bias))
