"""Matrix products that are fast on every CPU.

PyTorch multiplies float32 matrices with MKL, which on processors of other makers than Intel leaves
AVX-512 unused. There oneDNN, which PyTorch contains for its convolutions, takes half of the time.
`torch.backends.mkldnn.flags(enabled=False)` switches it off.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

SMALLEST = 2**20  # multiplications; in smaller products a call to oneDNN costs more than it saves
FEWEST_ROWS = 1000  # whose outer products oneDNN sums in less time
ROWS = 500  # of an image, in these sums
FEWEST_IMAGES = 16  # for which PyTorch gives a convolution to oneDNN, also with one thread


class Linear(nn.Linear):
    """PyTorch's linear layer, with the faster of its matrix products."""

    def forward(self, x: Tensor) -> Tensor:
        """The products `[..., O]` for `x`, `[..., I]`."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x W^T + b, like `torch.nn.functional.linear`; it can be differentiated twice.

    Args:
        x: `[..., I]`.
        weight: W, `[O, I]`.
        bias: b, `[O]`.

    Returns:
        `[..., O]`.
    """
    if not prefers_onednn(x, weight):
        return functional.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    multiply = _Linear.apply if torch.is_grad_enabled() else _onednn_linear
    product = cast(Callable[..., Tensor], multiply)(rows, weight, bias)
    return product.view(*x.shape[:-1], -1)


def add_product(total: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The sum of a matrix and x W^T, without gradients.

    Args:
        total: `[N, O]`; it may be overwritten.
        x: `[N, I]`.
        weight: W, `[O, I]`.

    Returns:
        `[N, O]`, which may be `total`.
    """
    if prefers_onednn(x, weight):
        multiply = torch.ops.mkldnn._linear_pointwise.binary
        return cast(Tensor, multiply(x, total, weight, None, "add"))
    if torch.is_autocast_enabled(x.device.type):
        return total.add_(functional.linear(x, weight))  # of 16 bits, to the dtype of the sum
    return total.addmm_(x, weight.t())


def prefers_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies `x`, `[..., I]`, with a weight, `[O, I]`, in less time."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= SMALLEST
        and _is_dense(weight)
        and not torch.is_autocast_enabled("cpu")
        and _mkl_leaves_vectors_unused()
        and bool(torch.backends.mkldnn.enabled)
    )


def _is_dense(weight: Tensor) -> bool:
    """Whether its rows or its columns follow each other in memory.

    With some columns of a wider matrix, oneDNN takes up to two thousand times as long.
    """
    return weight.is_contiguous() or weight.t().is_contiguous()


@cache
def _mkl_leaves_vectors_unused() -> bool:
    """Whether the processor has AVX-512 and MKL does not use it."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_f")) and "intel" not in str(found.get("cpu_name")).lower()


class _Linear(torch.autograd.Function):
    """A linear layer by oneDNN, and its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The products `[N, O]` of `x`, `[N, I]`."""
        ctx.save_for_backward(x, weight)
        return _onednn_linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all three; made of operations that can be differentiated again."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            linear(grad, weight.t()) if of_x else None,
            sum_of_outer_products(grad, x) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def sum_of_outer_products(left: Tensor, right: Tensor) -> Tensor:
    """The product L^T R of `[N, O]` and `[N, I]`, `[O, I]`."""
    if torch.is_grad_enabled() or len(left) < FEWEST_ROWS or not prefers_onednn(right, left.t()):
        # With the smaller matrix first, MKL is up to five times as fast.
        is_smaller = left.shape[1] <= right.shape[1]
        total = left.t() @ right if is_smaller else (right.t() @ left).t().contiguous()
        return total.to(left.dtype)  # under autocast it has 16 bits
    if left.shape[1] < right.shape[1]:
        # In the layout of the weights: a gradient in another one would be copied into it later.
        return _onednn_sum(right, left).t().contiguous()
    return _onednn_sum(left, right)


def _onednn_sum(left: Tensor, right: Tensor) -> Tensor:
    """See `sum_of_outer_products`.

    It is what a convolution with a kernel of one pixel has as the gradient of its weights, if rows
    are pixels and columns are channels. As a product oneDNN would first copy the transposed matrix.
    """
    num_rows = min(ROWS, len(left) // FEWEST_IMAGES)
    used = len(left) // num_rows * num_rows
    images = [
        one[:used].contiguous().view(-1, 1, num_rows, one.shape[1]).permute(0, 3, 1, 2)
        for one in (right, left)
    ]
    shape = (left.shape[1], right.shape[1])
    total = conv2d_weight(images[0], (*shape, 1, 1), images[1]).view(shape)
    return total if used == len(left) else total.addmm_(left[used:].t(), right[used:])


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))
