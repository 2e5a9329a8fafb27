"""The natural gradient by conjugate gradient, and a line search within a trust region."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DECAY = 0.8  # of the step in the line search
TOLERANCE = 1e-10  # squared residual, relative to that of no solution, at which it is solved

Product = Callable[[Tensor], Tensor]


class Found(NamedTuple):
    """Where a line search ended.

    Attributes:
        fraction: fraction of the step that is taken; 0 if none is.
        objective: the objective after it.
        divergence: KL(old ‖ new) after it.
    """

    fraction: float
    objective: float
    divergence: float


def flat_gradient(
    value: Tensor,
    parameters: Sequence[Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Tensor:
    """The gradient of a value, `[]`, with respect to P numbers in some parameters, `[P]`.

    It does not touch `grad`, so DDP takes no notice of it.
    """
    gradients = torch.autograd.grad(
        value,
        parameters,
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=True,
    )
    return as_vector(gradients)


def as_vector(tensors: Iterable[Tensor]) -> Tensor:
    """The P numbers of some tensors one after the other, `[P]`.

    `torch.nn.utils.parameters_to_vector` raises an error for tensors that are not contiguous, and
    gradients may be the transpose of what a product has computed.
    """
    return torch.cat([one.reshape(-1) for one in tensors])


def hessian_vector_product(value: Tensor, parameters: Sequence[Tensor], vector: Tensor) -> Tensor:
    """The product of the Hessian of a value with a vector, `[P]`, without the Hessian.

    It is the gradient of (gradient · vector).

    Args:
        value: `[]`, with a graph that can be differentiated twice.
        parameters: the parameters, with P numbers.
        vector: `[P]`.
    """
    gradient = flat_gradient(value, parameters, create_graph=True)
    return flat_gradient(gradient @ vector, parameters)


def conjugate_gradient(product: Product, target: Tensor, num_steps: int) -> Tensor:
    """Solve F x = b approximately for a positive definite matrix F.

    Args:
        product: maps a vector `[P]` to its product with F, `[P]`.
        target: b, `[P]`, float.
        num_steps: largest number of products; fewer if the residual vanishes before.

    Returns:
        x, `[P]`.
    """
    solution = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    square = first = residual @ residual
    for _ in range(num_steps):
        if square <= TOLERANCE * first:
            break
        image = product(direction)
        length = square / (direction @ image)
        solution += length * direction
        residual -= length * image
        before, square = square, residual @ residual
        direction = residual + square / before * direction
    return solution


def trust_region_step(
    product: Product, gradient: Tensor, *, limit: float, damping: float, num_steps: int
) -> Tensor:
    """The step along the natural gradient that reaches the limit of the divergence.

    To second order the divergence after a step s is s·F·s / 2 (arXiv 1502.05477, equation 17 and
    appendix C).

    Args:
        product: maps a vector `[P]` to its product with the Fisher matrix F, `[P]`.
        gradient: gradient of the objective, `[P]`, float.
        limit: the divergence, in nats.
        damping: multiple of the identity that is added to F for the direction; its length comes
            from F alone.
        num_steps: products of the conjugate gradient.

    Returns:
        The step, `[P]`; zero if the gradient is.
    """

    def damped(vector: Tensor) -> Tensor:
        return product(vector) + damping * vector

    direction = conjugate_gradient(damped, gradient, num_steps)
    curvature = direction @ product(direction)
    smallest = torch.finfo(curvature.dtype).tiny
    return (2 * limit / curvature.clamp(min=smallest)).sqrt() * direction


def line_search(
    evaluate: Callable[[float], tuple[float, float]],
    *,
    objective: float,
    limit: float,
    num_steps: int,
) -> Found:
    """Find the largest fraction of a step, of 1, 0.8, 0.64, …, that is an improvement.

    Args:
        evaluate: maps a fraction of the step to objective and divergence after it; NaN counts as
            worse.
        objective: the objective without the step.
        limit: largest divergence.
        num_steps: largest number of fractions.

    Returns:
        The first fraction with a higher objective and a divergence within the limit, which is also
        the last one that was evaluated; otherwise the fraction 0.
    """
    for number in range(num_steps):
        fraction = DECAY**number
        reached, divergence = evaluate(fraction)
        if reached > objective and divergence <= limit:
            return Found(fraction, reached, divergence)
    return Found(0.0, objective, 0.0)


@torch.no_grad()
def assign(parameters: Iterable[Tensor], vector: Tensor) -> None:
    """Copy a vector `[P]` into parameters, in place.

    `torch.nn.utils.vector_to_parameters` would replace their storage by parts of the vector's,
    which breaks what refers to it, such as cuDNN's recurrent layers.
    """
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.copy_(vector[start:end].view_as(parameter))
        start = end
