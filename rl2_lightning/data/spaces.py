"""Convert TorchRL's specs to an agent's spaces."""

from torchrl.data import Bounded, Categorical, Composite, MultiCategorical, TensorSpec

from rl2_lightning.agents.spaces import (
    DTYPES,
    Actions,
    Box,
    Discrete,
    MultiDiscrete,
    Observations,
)
from rl2_lightning.errors import UserError


def observations_of(spec: TensorSpec) -> Observations:
    """The agent's spaces of observations.

    Args:
        spec: unbatched spec of the observation.

    Raises:
        UserError: an entry is neither float32 nor uint8.
    """
    if isinstance(spec, Composite):
        return {name: _box(one) for name, one in sorted(spec.items())}
    return _box(spec)


def actions_of(spec: TensorSpec) -> Actions:
    """The agent's space of actions.

    Args:
        spec: unbatched spec of the action.
    """
    if isinstance(spec, MultiCategorical):  # which is a Categorical, too
        return MultiDiscrete(tuple(int(one.n) for one in spec.space))
    if isinstance(spec, Categorical):
        return Discrete(int(spec.space.n))
    return _box(spec)


def _box(spec: TensorSpec) -> Box:
    dtype = str(spec.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise UserError(
            f"{type(spec).__name__} of dtype {dtype} is not supported: use one of "
            f"{', '.join(DTYPES)}"
        )
    is_bounded = isinstance(spec, Bounded) and dtype == "float32"
    if not is_bounded:
        return Box(tuple(spec.shape), dtype)
    low, high = (bound.flatten().tolist() for bound in (spec.space.low, spec.space.high))
    return Box(tuple(spec.shape), dtype, tuple(low), tuple(high))
